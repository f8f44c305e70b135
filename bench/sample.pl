#!/usr/bin/perl
#
# sample.pl - CPU and memory of the server processes whose title matches.
#
# Looks at /proc ten times a second, because a worker may be gone when the
# measurement ends, and keeps for each process what it saw last.  A process
# counts with what it used since sampling began.  On SIGTERM, after a last
# look, it prints NAME VALUE lines: main_cpu (threads that carry their
# process's id) and other_cpu in seconds, main_wait, how long the former were
# ready to run while others had the CPUs, and in kB hwm_kb (of the largest
# process) and anon_kb (largest sum of RssAnon at one time).
#
# usage: sample.pl READY_FILE POSTMASTER_PID TITLE_REGEX [COMMAND WITH %p]...
#
# READY_FILE appears after the first look; whoever starts later than that counts
# from its beginning.  The command is started once, for the first process that is found.

use strict;
use warnings;

my ($ready, $postmaster, $regex, @command) = @ARGV;
my (%cpu, %base, %wait, %hwm);
my ($anon, $stop, $child, $first) = (0, 0, undef, 1);
$SIG{TERM} = sub { $stop = 1; };

sub slurp
{
	open my $f, '<', $_[0] or return '';
	local $/;
	my $text = <$f>;
	return defined $text ? $text : '';
}

# nanoseconds that one thread ran, and waited for a CPU
sub thread_times
{
	my $dir = shift;
	my ($ns, $waited) = split ' ', slurp("$dir/schedstat");
	return ($ns, $waited) if $ns;
	my @field = split ' ', (slurp("$dir/stat") =~ s/.*\)//sr);
	return (@field > 12 ? ($field[11] + $field[12]) * 1e7 : 0, 0);
}

sub look
{
	my $sum = 0;
	for my $pid (split ' ', slurp("/proc/$postmaster/task/$postmaster/children"))
	{
		next unless slurp("/proc/$pid/cmdline") =~ /$regex/;
		for my $dir (glob "/proc/$pid/task/*")
		{
			my ($tid) = $dir =~ /(\d+)$/;
			my ($ns, $waited) = thread_times($dir);
			my $key = ($tid == $pid ? 'main' : 'other') . " $pid $tid";
			$base{$key} = $first ? [ $ns, $waited ] : [ 0, 0 ] unless exists $base{$key};
			$cpu{$key} = $ns if $ns;
			$wait{$key} = $waited if $ns;
		}
		my $status = slurp("/proc/$pid/status");
		$hwm{$pid} = $1 if $status =~ /VmHWM:\s+(\d+)/;
		$sum += $1 if $status =~ /RssAnon:\s+(\d+)/;
		if (@command && !defined $child && slurp("/proc/$pid/cmdline") =~ /worker/)
		{
			my @argv = map { s/%p/$pid/r } @command;
			$child = fork;
			if (!$child)
			{
				open STDOUT, '>', '/dev/null';
				open STDERR, '>', '/dev/null';
				exec @argv or exit 1;
			}
		}
	}
	$anon = $sum if $sum > $anon;
	$first = 0;
	return;
}

look();
open my $mark, '>', $ready or die "could not write $ready: $!\n";
close $mark;
until ($stop)
{
	look();
	select undef, undef, undef, 0.1;
}
look();
if ($child)
{
	kill 'INT', $child;
	waitpid $child, 0;
}
my %total = (main => 0, other => 0);
my $main_wait = 0;
for my $key (keys %cpu)
{
	my ($kind) = split ' ', $key;
	$total{$kind} += ($cpu{$key} - $base{$key}[0]) / 1e9;
	$main_wait += ($wait{$key} - $base{$key}[1]) / 1e9 if $kind eq 'main';
}
my ($hwm) = sort { $b <=> $a } (values %hwm, 0);
printf "main_cpu %.6f\nmain_wait %.6f\nother_cpu %.6f\nhwm_kb %d\nanon_kb %d\n", $total{main}, $main_wait, $total{other}, $hwm, $anon;
