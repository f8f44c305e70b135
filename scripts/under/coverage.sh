# shellcheck shell=bash
#
# coverage.sh - the tests with a count of the lines that they run.
#
# Sourced by check.sh --under coverage.  Prints a line per source file, those with
# the fewest lines covered first, and fails when fewer than COVERAGE_LEAST (90)
# per cent of all lines are.  --results DIR gets coverage.info, for lcov's tools,
# and uncovered.txt: the lines that nothing ran, as FILE:LINE.
#
# A process writes its counts when it exits.  What is killed with -9 takes them
# along, so servers end by a fast shutdown here, and the true figure is somewhat higher.

under_packages=(lcov)
under_make=(PROFILE="--coverage -O0 -g")

under_installed() { export MILLRACE_STOP=fast; }

under_report() {
	local dir=$S/coverage/results least=${COVERAGE_LEAST:-90} rc
	mkdir -p "$dir"
	if ! lcov --quiet --capture --no-external --base-directory "$S/src" --directory "$S/src/src" \
		--output-file "$dir/coverage.info" >"$S/coverage/log" 2>&1; then
		show "lcov" "$S/coverage/log" 20
		result 1 coverage
		return
	fi
	awk -v root="$S/src/" -v least="$least" -v uncovered="$dir/uncovered.txt" '
		/^SF:/ { file = substr($0, 4); sub("^" root, "", file) }
		/^DA:/ {
			split(substr($0, 4), at, ",")
			lines[file]++
			if (at[2] > 0)
				ran[file]++
			else
				print file ":" at[1] >uncovered
		}
		END {
			for (file in lines)
			{
				printf "%6.1f %%  %5d of %5d  %s\n", 100 * ran[file] / lines[file], ran[file], lines[file], file | "sort -n"
				all += lines[file]
				total += ran[file]
			}
			close("sort -n")
			if (all == 0)
				exit 1
			printf "%6.1f %%  %5d of %5d  lines, at least %s %% wanted\n", 100 * total / all, total, all, least
			exit 100 * total / all < least
		}' "$dir/coverage.info"
	rc=$?
	result $rc coverage
}
