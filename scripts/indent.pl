#!/usr/bin/env perl
#
# indent.pl - lays the C sources out as PostgreSQL's pgindent does.
#
# pgindent itself, and core's list of type names, come only with PostgreSQL's
# sources.  So this is pgindent in small: the same flags for pg_bsd_indent and
# the same passes before and after it, with the type names read from the
# installed server's headers, from librdkafka's and from our own sources.
# typedefs.list holds our own and librdkafka's for those who run the real one;
# it is rewritten here, and names in it that stand nowhere else are kept.
#
# usage: scripts/indent.pl [--check] [FILE...]      default: src/*.[ch] src/*/*.[ch]
#        scripts/indent.pl --typedefs               prints all known type names

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Temp;
use Getopt::Long;

my $INDENT = $ENV{PGINDENT} || 'pg_bsd_indent';
my $FLAGS =
    '-bad -bap -bbb -bc -bl -cli1 -cp33 -cdb -nce -d0 -di12 -nfc1 -i4 -l79 '
  . '-lp -lpl -nip -npro -sac -tpg -ts4';

# Words that pgindent too adds or refuses.
my @additional = ('bool');
my %excluded = map { $_ => 1 } qw(
  ANY FD_SET U abs allocfunc boolean date digit ilist interval iterator other
  pointer printfunc reference string timestamp type wrap
);

# Types of the C library that core's list has too.
my @system = qw(
  DIR FILE clock_t dev_t div_t fd_set gid_t ino_t int16_t int32_t int64_t int8_t intmax_t
  intptr_t jmp_buf key_t ldiv_t locale_t mode_t nfds_t off_t pid_t pthread_mutex_t
  pthread_t ptrdiff_t sa_family_t sig_atomic_t sigjmp_buf sigset_t size_t
  socklen_t ssize_t time_t timer_t u_char u_int u_long uid_t uint16_t uint32_t
  uint64_t uint8_t uintptr_t va_list wchar_t wint_t
);

my ($check, $print_typedefs);
GetOptions('check' => \$check, 'typedefs' => \$print_typedefs)
  or die "usage: $0 [--check] [FILE...]\n";

chdir(dirname(abs_path($0)) . '/..') or die "could not change directory: $!\n";

sub slurp
{
	my ($path) = @_;
	open(my $fh, '<', $path) or die "could not open \"$path\": $!\n";
	local $/;
	return scalar <$fh> // '';
}

sub spew
{
	my ($path, $text) = @_;
	open(my $fh, '>', $path) or die "could not write \"$path\": $!\n";
	print $fh $text;
	close($fh) or die "could not write \"$path\": $!\n";
}

# Returns the names that a C text declares by typedef.
sub typedefs_of
{
	my ($text) = @_;
	my @names;

	push @names, "FormData_$1" while $text =~ /^CATALOG\((\w+)/gm;

	$text =~ s!\\\n! !g;
	$text =~ s!/\*.*?\*/! !gs;
	$text =~ s!//[^\n]*! !g;
	$text =~ s!^[ \t]*#.*$! !gm;
	$text =~ s!"(?:[^"\\]|\\.)*"!""!g;

	while ($text =~ /\btypedef\b/g)
	{
		my ($depth, $decl) = (0, '');

		# Up to the semicolon that ends it, without what is in braces.
		while ($text =~ /\G([^{};]*)([{};])/gc)
		{
			$decl .= $1 if $depth == 0;
			last if $2 eq ';' && $depth == 0;
			$depth++ if $2 eq '{';
			$depth-- if $2 eq '}';
			$decl .= ' ' if $depth == 0;
		}
		$decl =~ s/__attribute__\s*\(\(.*?\)\)|pg_attribute_\w+(\s*\(.*?\))?//gs;
		if ($decl =~ /^[^(]*\(\s*\*\s*(?:const\s+)?(\w+)\s*(?:\[[^\]]*\]\s*)?\)/s)
		{
			push @names, $1;    # pointer to function
		}
		elsif ($decl =~ /^(.*?)\b(\w+)\s*\(/s && $decl !~ /\bunion\b|\bstruct\b.*,/s)
		{
			push @names, $2;    # function type
		}
		else
		{
			$decl =~ s/\[[^\]]*\]//g;
			push @names, map { /(\w+)\s*$/ ? $1 : () } split /,/, $decl;
		}
	}
	return @names;
}

sub server_includedir
{
	foreach my $config ($ENV{PG_CONFIG} // (),
		(reverse sort glob '/usr/lib/postgresql/15*/bin/pg_config'), 'pg_config')
	{
		my $dir = `$config --includedir-server 2>/dev/null`;
		chomp $dir;
		return $dir if -f "$dir/postgres.h";
	}
	die "no PostgreSQL server headers found\n";
}

# Type names of all headers below a directory whose name matches the pattern.
sub typedefs_below
{
	my ($dir, $pattern) = @_;
	my @files = split /\0/, `find -L $dir -name '$pattern' -print0`;
	return map { typedefs_of(slurp($_)) } sort @files;
}

my @sources = sort(glob('src/*.[ch]'), glob('src/*/*.[ch]'));
my %ours = map { $_ => 1 } map { typedefs_of(slurp($_)) } @sources;
my %kafka = map { $_ => 1 } grep { /^rd_/ } typedefs_below('/usr/include/librdkafka', 'rdkafka*.h');
my %kept = map { $_ => 1 } -f 'typedefs.list' ? split(/\n/, slurp('typedefs.list')) : ();
my %all = (%ours, %kafka, %kept,
	map { $_ => 1 } typedefs_below(server_includedir(), '*.h'), @system, @additional);
delete @all{ keys %excluded };

if ($print_typedefs)
{
	print map { "$_\n" } sort keys %all;
	exit 0;
}

my $typedefs = File::Temp->new(TEMPLATE => 'typedefsXXXXXX', TMPDIR => 1);
print $typedefs map { "$_\n" } sort keys %all;
$typedefs->close;

# Returns the text laid out, or undef after a message.
sub indented
{
	my ($source, $name) = @_;

	$source =~ s!^([ \t]*)//(.*)$!$1/* $2 */!gm;
	$source =~ s!/\* +---!/*---X_X!g;
	$source =~
	  s!(^#ifdef[ \t]+__cplusplus.*\nextern[ \t]+"C"[ \t]*\n)\{[ \t]*$!$1/* Open extern "C" */!gm;
	$source =~ s!(^#ifdef[ \t]+__cplusplus.*\n)\}[ \t]*$!$1/* Close extern "C" */!gm;

	my $tmp = File::Temp->new(TEMPLATE => 'indentXXXXXX', TMPDIR => 1, SUFFIX => '.c');
	my $path = $tmp->filename;
	print $tmp $source;
	$tmp->close;
	my $message = `cd /tmp && $INDENT $FLAGS -U$typedefs $path 2>&1`;
	my $failed = $? || length $message;
	unlink "$path.BAK", '/tmp/' . (split m!/!, $path)[-1] . '.BAK';
	if ($failed)
	{
		$message =~ s/\Q$path\E/$name/g;
		print STDERR "$name: could not be laid out: ${message}"
		  . "(a variable called like a type, at the start of an initializer, can cause this)\n";
		return undef;
	}
	$source = slurp($path);

	$source =~ s!^/\* Open extern "C" \*/$!{!gm;
	$source =~ s!^/\* Close extern "C" \*/$!}!gm;
	$source =~ s!/\*---X_X!/* ---!g;
	$source =~ s!\*/(/\*.*\*/)$!*/\t$1!gm;
	$source =~ s!^([A-Za-z_]\S*)[ \t]+\*$!$1 *!gm;
	return $source;
}

`$INDENT --version 2>&1` =~ / 2\.1\.1 / or die "$INDENT 2.1.1 is not installed\n";

my ($failed, $changed) = (0, 0);
foreach my $file (@ARGV ? @ARGV : @sources)
{
	my $before = slurp($file);
	my $after = indented($before, $file);
	if (!defined $after)
	{
		$failed++;
		next;
	}
	next if $after eq $before;
	$changed++;
	if ($check)
	{
		my $tmp = File::Temp->new;
		print $tmp $after;
		$tmp->close;
		system('diff', '-u', '--label', $file, '--label', "$file (indented)", $file, $tmp->filename);
	}
	else
	{
		spew($file, $after);
		print "indented $file\n";
	}
}

if (!$check && !@ARGV)
{
	my $words = join ' ', map { slurp($_) } @sources;
	my %used = map { $_ => 1 } $words =~ /\b(\w+)\b/g;
	my $list = join '', map { "$_\n" }
	  grep { $ours{$_} || ($kafka{$_} || $kept{$_}) && $used{$_} } sort keys %all;
	spew('typedefs.list', $list) if @sources && (!-f 'typedefs.list' || slurp('typedefs.list') ne $list);
}
printf "check-indent: %d files, %d to indent\n", scalar(@ARGV ? @ARGV : @sources), $changed + $failed
  if $check;
exit(($check && $changed) || $failed ? 1 : 0);
