#!/usr/bin/perl
#
# report.pl - turns what run.sh recorded into Markdown (stdout) and JSON.
#
# usage: report.pl RECORDS JSON_FILE
#
# A record is ROUND, WORKLOAD, NAME, VALUE, separated by tabs; round 0 is about
# the run itself.  Of several rounds the median counts, and a ratio is the
# median of the ratios of each round, because the machine is not equally fast
# all the time.

use strict;
use warnings;
use JSON::PP;

my ($records, $json_file) = @ARGV;
my (%run, %value, @order);

open my $in, '<', $records or die "could not read $records: $!\n";
while (<$in>)
{
	chomp;
	my ($round, $workload, $name, $value) = split /\t/, $_, 4;
	if ($round == 0) { $run{$name} = $value; next; }
	push @order, $workload unless exists $value{$workload};
	$value{$workload}{$name}{$round} = $value;
}
close $in;

sub median
{
	my @sorted = sort { $a <=> $b } grep { defined } @_;
	return undef unless @sorted;
	my $middle = @sorted / 2;
	return @sorted % 2 ? $sorted[$middle] : ($sorted[ $middle - 1 ] + $sorted[$middle]) / 2;
}

# The bare consumer's own line: all its runs over the topic that most workloads read.
sub bare_line
{
	my (@rate, @main, @wait, @other, @hwm);
	for my $workload (grep { !/^[WCU]/ } @order)
	{
		my $in = $value{$workload};
		for my $round (keys %{ $in->{bare_messages} // {} })
		{
			my $n = $in->{bare_messages}{$round};
			push @rate, $n / $in->{bare_seconds}{$round};
			push @main, $in->{bare_main_cpu}{$round} / $n * 1e6;
			push @wait, $in->{bare_main_wait}{$round} / $n * 1e6;
			push @other, $in->{bare_other_cpu}{$round} / $n * 1e6;
			push @hwm, $in->{bare_hwm_kb}{$round} / 1024;
		}
	}
	return { rate => median(@rate), main_us => median(@main), wait_us => median(@wait), other_us => median(@other),
		all_us => median(map { $main[$_] + $other[$_] } 0 .. $#main), hwm_mb => median(@hwm) };
}

# derived figures of one round
sub derive
{
	my ($workload, $round) = @_;
	my %in = map { $_ => $value{$workload}{$_}{$round} } keys %{ $value{$workload} };
	my %out;
	my $bare = $in{bare_messages} && $in{bare_seconds};
	return {} unless $in{messages} && $in{seconds};
	$out{rate} = $in{messages} / $in{seconds};
	$out{bare_rate} = $in{bare_messages} / $in{bare_seconds} if $bare;
	$out{ratio} = $out{rate} / $out{bare_rate} if $bare && !$in{paced};
	$out{ingest_rate} = $in{worker_messages} / $in{step_ms} * 1000 if $in{step_ms};
	for my $kind ('main', 'other')
	{
		$out{"bare_${kind}_us"} = $in{"bare_${kind}_cpu"} / $in{bare_messages} * 1e6 if $bare;
		next unless defined $in{"${kind}_cpu"};
		$out{"${kind}_us"} = $in{"${kind}_cpu"} / $in{messages} * 1e6;
		$out{"${kind}_ratio"} = $out{"${kind}_us"} / $out{"bare_${kind}_us"} if $out{"bare_${kind}_us"};
	}
	# a peer's work in the server is part of what it costs
	my @cpu = grep { defined } @in{qw(main_cpu other_cpu server_main_cpu server_other_cpu)};
	$out{all_us} += $_ / $in{messages} * 1e6 for @cpu;
	$out{all_ratio} = $out{all_us} / ($out{bare_main_us} + $out{bare_other_us}) if @cpu && $out{bare_main_us};
	$out{wait_us} = $in{main_wait} / $in{messages} * 1e6 if defined $in{main_wait};
	$out{hwm_mb} = $in{hwm_kb} / 1024 if $in{hwm_kb};
	$out{anon_mb} = $in{anon_kb} / 1024 if $in{anon_kb};
	$out{bare_hwm_mb} = $in{bare_hwm_kb} / 1024 if $in{bare_hwm_kb};
	$out{memory_ratio} = ($out{anon_mb} // $out{hwm_mb}) / $out{bare_hwm_mb}
	  if $out{bare_hwm_mb} && $out{hwm_mb};
	$out{wal_per_message} = $in{wal} / $in{messages} if defined $in{wal};
	$out{wal_stat_per_message} = $in{wal_stat} / $in{messages} if defined $in{wal_stat};
	for my $phase ('decode', 'aggregate', 'merge', 'commit')
	{
		$out{"${phase}_us"} = $in{"${phase}_ms"} / $in{worker_messages} * 1000
		  if defined $in{"${phase}_ms"} && $in{worker_messages};
	}
	return \%out;
}

my %result;
for my $workload (@order)
{
	my %rounds = map { %{ $value{$workload}{$_} } } keys %{ $value{$workload} };
	my (%all, %median);
	for my $round (keys %rounds)
	{
		my $one = derive($workload, $round);
		push @{ $all{$_} }, $one->{$_} for keys %$one;
	}
	$median{$_} = median(@{ $all{$_} }) for keys %all;
	if ($all{ratio})
	{
		my @sorted = sort { $a <=> $b } @{ $all{ratio} };
		@median{ 'ratio_min', 'ratio_max' } = @sorted[ 0, -1 ];
	}
	for my $name (keys %{ $value{$workload} })
	{
		my @values = values %{ $value{$workload}{$name} };
		$median{raw}{$name} = $name =~ /^(?:guarantee|how|note)$/ ? $values[0] : 0 + median(@values);
	}
	$median{rounds} = scalar keys %rounds;
	$result{$workload} = \%median;
}

sub number
{
	my ($format, $value) = @_;
	return '–' unless defined $value;
	my $text = sprintf $format, $value;
	1 while $text =~ s/^(\d+)(\d{3})/$1,$2/;
	return $text;
}

sub row { print '| ', join(' | ', @_), " |\n"; return; }

sub heading
{
	row(@_);
	row(map { '---' } @_);
	return;
}

print "millrace against a bare librdkafka consumer of the same topic in the same run, median of $run{rounds} round(s).\n\n";
print "- $run{machine}\n- $run{versions}\n- $run{settings}\n";
print "- load average at the start $run{load}; when other programs wait for the same CPUs, \"µs waiting\" tells how long "
  . "the main thread stood by, and wall figures, ratios too, are lower than on a quiet machine\n";
print "- not run: $run{skipped}; name them to have them fetched and run\n" if $run{skipped};
print "- $run{note}\n" if $run{note};
print "\n";

my @rates = grep { defined $result{$_}{rate} } @order;
if (@rates)
{
	heading('workload', 'messages/s', 'bare/s', 'ratio', 'steps only/s', 'CPU µs, main thread', '× bare',
		'µs waiting for a CPU', 'CPU µs, other threads', '× bare', 'CPU µs, all with the server', '× bare', 'MB anonymous', 'MB VmHWM', '× bare', 'WAL bytes/message', 'guarantee');
	my $bare = bare_line();
	row('bare', number('%.0f', $bare->{rate}), '', '1.00', '', number('%.2f', $bare->{main_us}), '1.0',
		number('%.2f', $bare->{wait_us}), number('%.2f', $bare->{other_us}), '1.0',
		number('%.2f', $bare->{all_us}), '1.0', '', number('%.0f', $bare->{hwm_mb}), '1.0', '', 'none');
	for my $workload (@rates)
	{
		my $r = $result{$workload};
		my $ratio = number('%.2f', $r->{ratio});
		$ratio .= sprintf ' (%.2f–%.2f)', $r->{ratio_min}, $r->{ratio_max} if $r->{ratio_min} && $r->{rounds} > 1;
		row($workload, number('%.0f', $r->{rate}), number('%.0f', $r->{bare_rate}), $ratio,
			number('%.0f', $r->{ingest_rate}), number('%.2f', $r->{main_us}), number('%.1f', $r->{main_ratio}),
			number('%.2f', $r->{wait_us}), number('%.2f', $r->{other_us}), number('%.1f', $r->{other_ratio}),
			number('%.2f', $r->{all_us}), number('%.1f', $r->{all_ratio}), number('%.0f', $r->{anon_mb}),
			number('%.0f', $r->{hwm_mb}), number('%.1f', $r->{memory_ratio}),
			number('%.1f', $r->{wal_per_message}), $r->{raw}{guarantee} // 'exactly once: offsets beside the data');
	}
	print "\n";
}

my @phases = grep { defined $result{$_}{merge_us} } @order;
if (@phases)
{
	print "Wall µs per message in each phase of a step (what librdkafka hands over is not part of it):\n\n";
	heading('workload', 'decode', 'aggregate', 'merge', 'commit');
	for my $workload (@phases)
	{
		row($workload, map { number('%.3f', $result{$workload}{"${_}_us"}) } 'decode', 'aggregate', 'merge', 'commit');
	}
	print "\n";
}

my @fresh = grep { defined $result{$_}{raw}{p50_ms} } @order;
if (@fresh)
{
	print "Produce-to-visible (the producer lingers 1 ms, the reader asks once a ms):\n\n";
	heading('workload', 'messages/s sent', 'p50 ms', 'p95 ms', 'p99 ms', 'max ms');
	for my $workload (@fresh)
	{
		my $raw = $result{$workload}{raw};
		row($workload, number('%.0f', $raw->{rate}), map { number('%.1f', $raw->{"${_}_ms"}) } 'p50', 'p95', 'p99', 'max');
	}
	print "\n";
}

for my $workload (grep { defined $result{$_}{raw}{live_bytes} } @order)
{
	my $raw = $result{$workload}{raw};
	printf "%s: %.0f messages/s into %s hot groups for %.0f s: matrel with index %.1f MB, the same rows rewritten %.1f MB "
	  . "(ratio %.2f, at most %.2f while it ran); WAL %.1f bytes/message; HOT %.1f %% of updates, %d autovacuum run(s); "
	  . "point read p50 %.2f ms, p99 %.2f ms; whole view p50 %.1f ms, p99 %.1f ms; lag at the end %.0f ms\n\n",
	  $workload, $raw->{messages} / $raw->{seconds}, number('%.0f', $raw->{groups}), $raw->{seconds},
	  $raw->{matrel_bytes} / 1e6, $raw->{live_bytes} / 1e6, $raw->{matrel_bytes} / $raw->{live_bytes},
	  $raw->{matrel_bytes_max} / $raw->{live_bytes}, $result{$workload}{wal_per_message}, $raw->{hot_percent},
	  $raw->{autovacuums}, $raw->{point_p50_ms}, $raw->{point_p99_ms}, $raw->{scan_p50_ms}, $raw->{scan_p99_ms},
	  $raw->{end_lag_ms};
}

for my $workload (grep { defined $result{$_}{raw}{view_whole_ms} } @order)
{
	my $raw = $result{$workload}{raw};
	printf "%s: a view of %s groups and a table of the same rows with the same index: aggregating all of it %.1f and %.1f ms "
	  . "(ratio %.2f), filtering by key %.3f and %.3f ms (ratio %.2f); the planner expects %s rows of the view, %s urls in it, "
	  . "%s row(s) of one key\n\n",
	  $workload, number('%.0f', $raw->{groups}), $raw->{view_whole_ms}, $raw->{table_whole_ms},
	  $raw->{view_whole_ms} / $raw->{table_whole_ms}, $raw->{view_point_ms}, $raw->{table_point_ms},
	  $raw->{view_point_ms} / $raw->{table_point_ms}, map { number('%.0f', $raw->{"planned_$_"}) } 'rows', 'groups', 'point';
}

for my $workload (grep { defined $result{$_}{raw}{first_commit_ms} } @order)
{
	my $raw = $result{$workload}{raw};
	printf "%s: restart of the server with a view of %s groups: connections accepted after %d ms, new messages in the view "
	  . "after %d ms\n\n", $workload, number('%.0f', $raw->{groups}), $raw->{up_ms}, $raw->{first_commit_ms};
}

for my $workload (@order)
{
	my $raw = $result{$workload}{raw};
	print "- $workload: $raw->{how}\n" if defined $raw->{how};
	print "- $workload: $raw->{note}\n" if defined $raw->{note};
}

open my $out, '>', $json_file or die "could not write $json_file: $!\n";
print $out JSON::PP->new->canonical->pretty->encode({ run => \%run, workloads => \%result });
close $out or die "could not write $json_file: $!\n";
