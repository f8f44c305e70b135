# millrace: continuous views over Kafka topics
#
#   make && make install     build and install (PG_CONFIG=... picks the server)
#   make WERROR=1            warnings are errors
#   make FAILPOINTS=1        a library for tests, with places where they can make it fail
#   make check-layers        no file includes what lies below its own layer
#   make check-indent        the sources are pgindent-clean
#   make indent              make them so
#   make check-coverage      all tests, and which lines they run
#   make check-asan          all tests under AddressSanitizer and UndefinedBehaviorSanitizer
#   make check-valgrind      some of them under valgrind's memcheck
#   make analyze             clang's warnings and its static analyser; needs clang-14
#   make fuzz SECONDS=60     feed the JSON decoder with libFuzzer's messages; needs
#                            clang-14 and libclang-rt-14-dev
#
# scripts/check.sh runs every test; see there.

EXTENSION = millrace
MODULE_big = millrace
DATA_built = millrace--0.1.sql
PGFILEDESC = "millrace - continuous views over Kafka topics"

# The extension's script is made of these, in this order.
SCRIPT = extension/core.sql extension/tables.sql extension/ordered.sql extension/aggregates.sql extension/sketches.sql \
	extension/privileges.sql

OBJS := $(patsubst %.c,%.o,$(sort $(wildcard src/*.c src/*/*.c))) \
	$(patsubst %.cpp,%.o,$(sort $(wildcard src/*/*.cpp)))
DEPS := $(OBJS:.o=.d)

PG_CPPFLAGS = -I$(srcdir)/src
# What PostgreSQL's own headers would trigger under -Wextra is left out.
PG_CFLAGS = -std=gnu99 -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers -Wno-declaration-after-statement \
	-Werror=implicit-function-declaration
PG_CXXFLAGS = -std=c++17 -O2 -Wall -Wextra
SHLIB_LINK = -lrdkafka -lsimdjson -lstdc++

ifdef FAILPOINTS
PG_CPPFLAGS += -DMR_FAILPOINTS
endif

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

EXTRA_CLEAN = $(DEPS) tmp_fuzz tmp_coverage tmp_asan tmp_valgrind tmp_reg tmp_iso tmp_check output_iso results log \
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

millrace--0.1.sql: $(SCRIPT) Makefile
	cat $(SCRIPT) >$@

%.o: %.cpp
	$(CXX) $(CXXFLAGS) $(PROFILE) $(CPPFLAGS) -c -o $@ $<

# The decoder without a server, under AddressSanitizer and UndefinedBehaviorSanitizer: what
# they find ends the run with 1, and the message is left in tmp_fuzz/.  FUZZ_JOBS at a time.
FUZZ_CC = clang-14
SECONDS = 60
FUZZ_JOBS = 1
FUZZ_SOURCES = t/fuzz/decode.c t/fuzz/backend.c $(addprefix src/format/,json_format.c json_text.c \
	scalar.c datetime.c reject.c)
FUZZ_FLAGS = -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize=vptr -fno-sanitize-recover=all -fwrapv

tmp_fuzz/decode: $(FUZZ_SOURCES) t/fuzz/backend.h src/format/json.cpp $(wildcard src/format/*.h) Makefile
	mkdir -p tmp_fuzz/corpus
	$(FUZZ_CC) $(FUZZ_FLAGS) -x c++ -std=c++17 -c -o tmp_fuzz/json.o src/format/json.cpp
	$(FUZZ_CC) $(FUZZ_FLAGS) -std=gnu99 -Wno-ignored-attributes -DUSE_PRIVATE_ENCODING_FUNCS -Isrc -It/fuzz \
		-I$(shell $(PG_CONFIG) --includedir-server) -o $@ $(FUZZ_SOURCES) tmp_fuzz/json.o \
		-L$(shell $(PG_CONFIG) --pkglibdir) -L$(shell $(PG_CONFIG) --libdir) \
		-lpgcommon -lpgport -lsimdjson -lstdc++ -lm

fuzz: tmp_fuzz/decode
	cd tmp_fuzz && ./decode -max_total_time=$(SECONDS) -jobs=$(FUZZ_JOBS) -workers=$(FUZZ_JOBS) \
		-dict=../t/fuzz/json.dict -max_len=4096 -timeout=10 -print_final_stats=1 corpus ../t/fuzz/corpus

.PHONY: check-layers check-indent indent fuzz check-coverage check-asan check-valgrind analyze

check-layers:
	@scripts/check-layers.sh

check-indent:
	@scripts/indent.pl --check

indent:
	@scripts/indent.pl

# What they found is left in tmp_coverage/, tmp_asan/, tmp_valgrind/.
check-coverage check-asan check-valgrind: check-%:
	@rm -rf tmp_$*
	@scripts/check.sh --no-static --results $(CURDIR)/tmp_$* --under $*

analyze:
	@CFLAGS="$(PG_CFLAGS) -Wno-ignored-attributes" CXXFLAGS="$(PG_CXXFLAGS)" CPPFLAGS="$(PG_CPPFLAGS) -D_GNU_SOURCE \
		-isystem $(shell $(PG_CONFIG) --includedir-server)" scripts/analyze.sh $(sort $(wildcard $(OBJS:.o=.c) $(OBJS:.o=.cpp)))
