# What the documents tell users to type can be typed, and does what they say.
#
# In a document blocks of sql are run one after another in a database of their own.
# Lines that begin with "-->" are what the statements before them print last, columns
# separated by " | ".  Brokers and topics are the test's own.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');

# [line, text] of each block of sql below a heading, or of all.
sub blocks
{
	my ($file, $heading) = @_;
	my ($section, $block, $number, @blocks) = ('', undef, 0);

	foreach my $line (split /\n/, slurp_file($file))
	{
		$number++;
		$section = $1 if !defined $block && $line =~ /^#+ (.*)/;
		if ($line =~ /^```(.*)/)
		{
			push @blocks, $block if defined $block && (!defined $heading || $section eq $heading);
			$block = !defined $block && $1 eq 'sql' ? [ $number, '' ] : undef;
		}
		elsif (defined $block)
		{
			$block->[1] .= "$line\n";
		}
	}
	return @blocks;
}

# Runs a block, piece by piece where it says what is printed.
sub run_block
{
	my ($file, $database, $block) = @_;
	my ($number, $text) = @$block;
	my $bootstrap = bootstrap();

	$text =~ s/localhost:9092/$bootstrap/;
	$text =~ s/timeout => '\K\d+s/patience(60) . 's'/ge;
	$text =~ s/(create_topic\('kafka', |topic )'(\w+)'/"$1'" . topic_name($2) . "'"/ge;
	while ($text =~ /\G((?:(?!-->).*\n)+)((?:-->.*\n)*)/g)
	{
		my ($sql, $expected) = ($1, join "\n", map { s/^--> //r } split /\n/, $2);
		my ($rc, $out, $err) = $node->psql($database, $sql, extra_params => [ '-F', ' | ' ], on_error_stop => 1);

		is($rc, 0, "$file, block at line $number") or diag("$sql\n$err");
		next if $expected eq '';
		my @out = split /\n/, $out;
		my $lines = () = $expected =~ /^/mg;
		is(join("\n", splice @out, -$lines), $expected, "$file, what the block at line $number prints");
	}
}

sub run_document
{
	my ($file, $database, $heading) = @_;
	my @blocks = blocks($file, $heading);

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	ok(@blocks > 0, "$file has sql");
	run_block($file, $database, $_) foreach @blocks;
}

run_document('README.md', 'first_stream', 'A first stream');
is($node->safe_psql('first_stream', 'SELECT url, hits, avg_latency FROM views_per_minute'), '/|2|10', 'the first stream');
run_document('doc/coming-from-pipelinedb.md', 'pipelinedb');
done_testing();
