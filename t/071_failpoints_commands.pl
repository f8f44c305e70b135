# Failures between any two steps of commands: DDL, rebuild, replay, INSERT, retention.

use strict;
use warnings;

use lib 't/lib';
use MillraceFailpoint;

walk('commands');
