# millrace: continuous views over Kafka topics
#
#   make && make install     build and install (PG_CONFIG=... picks the server)
#   make WERROR=1            warnings are errors
#   make check-layers        no file includes what lies below its own layer
#   make check-indent        the sources are pgindent-clean
#   make indent              make them so
#
# scripts/check.sh runs every test; see there.

EXTENSION = millrace
MODULE_big = millrace
DATA = millrace--0.1.sql
PGFILEDESC = "millrace - continuous views over Kafka topics"

OBJS := $(patsubst %.c,%.o,$(sort $(wildcard src/*.c src/*/*.c))) \
	$(patsubst %.cpp,%.o,$(sort $(wildcard src/*/*.cpp)))
DEPS := $(OBJS:.o=.d)

PG_CPPFLAGS = -I$(srcdir)/src
# What PostgreSQL's own headers would trigger under -Wextra is left out.
PG_CFLAGS = -std=gnu99 -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers -Wno-declaration-after-statement
PG_CXXFLAGS = -std=c++17 -O2 -Wall -Wextra
SHLIB_LINK = -lrdkafka -lsimdjson -lstdc++

ifdef WERROR
PG_CFLAGS += -Werror
PG_CXXFLAGS += -Werror
endif

REGRESS := $(patsubst sql/%.sql,%,$(sort $(wildcard sql/*.sql)))
REGRESS_OPTS = --temp-instance=$(CURDIR)/tmp_reg --temp-config=$(CURDIR)/test.conf \
	--load-extension=millrace
ISOLATION := $(patsubst specs/%.spec,%,$(sort $(wildcard specs/*.spec)))
ISOLATION_OPTS = --temp-instance=$(CURDIR)/tmp_iso --temp-config=$(CURDIR)/test.conf \
	--load-extension=millrace
TAP_TESTS = 1

EXTRA_CLEAN = $(DEPS) tmp_reg tmp_iso tmp_check output_iso results log \
	regression.diffs regression.out

# No bitcode: it would need clang, and a worker never compiles just in time.
override with_llvm := no

PG_CONFIG = pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# Every object remembers the headers it was made from.
override CPPFLAGS += -MMD -MP
-include $(wildcard $(DEPS))

$(OBJS): Makefile

%.o: %.cpp
	$(CXX) $(CXXFLAGS) $(CPPFLAGS) -c -o $@ $<

.PHONY: check-layers check-indent indent

check-layers:
	@scripts/check-layers.sh

check-indent:
	@scripts/indent.pl --check

indent:
	@scripts/indent.pl
