# Failures between any two steps of the batch transaction, of catch-up and of starting.

use strict;
use warnings;

use lib 't/lib';
use MillraceFailpoint;

walk('batch');
