# What a developer types. `make help` lists it.

VERSION := $(shell sed -n 's/^version *= *"\(.*\)"/\1/p' Cargo.toml | head -n 1)
PREFIX ?= /usr/local
DESTDIR ?=
CARGO ?= cargo

target := $(or $(CARGO_TARGET_DIR),target)
lib := $(target)/release/libdyups-$(VERSION).so

# Tests of the code itself need no link-time optimisation; those of what ships load what `make build` made.
quick := --profile quick --locked

.PHONY: help build run test storm kill-release fuzz model memcheck mutants matrix newcomer bench lint install header clean
.DEFAULT_GOAL := help

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | \
		while IFS='|' read -r name text; do printf '  make %-12s  %s\n' "$$name" "$$text"; done

# nginx loads the library by a name with the version in it, and may be running with it: hence a new file and a rename.
build: ## build the library: target/release/libdyups-VERSION.so
	@tools/deps build
	$(CARGO) build --release --locked
	@cmp -s $(target)/release/libdyups.so $(lib) || { \
		cp $(target)/release/libdyups.so $(lib).tmp && mv -f $(lib).tmp $(lib); }

run: ## run the demo, nginx-test.conf, until Ctrl-C
	@tools/deps build run
	@$(MAKE) --no-print-directory build
	@exec tools/run

test: ## run every test: Rust, Lua in a VM, and nginx
	@tools/deps build test
	@$(MAKE) --no-print-directory build
	$(CARGO) test $(quick)
	$(CARGO) test $(quick) --features killpoints --test killpoints --test stopped --test hostile
	tools/prove

storm: ## kill 2,000 processes while they find and change, and as many workers of nginx under load
	@tools/deps build test
	@$(MAKE) --no-print-directory build
	DYUPS_STORM_KILLS=2000 $(CARGO) test $(quick) --test storm --test nginx -- storm

kill-release: ## step through all changes of the library that ships, and recover after each instruction
	@tools/deps build test
	@$(MAKE) --no-print-directory build
	$(CARGO) test $(quick) --test kill_release -- --ignored --nocapture

fuzz: ## fuzz a region that another process spoils, for FUZZ_SECONDS (600)
	@tools/deps build fuzz
	@exec tools/fuzz

model: ## explore the protocol under loom: every order of a few processes, within bounds
	@tools/deps build
	$(CARGO) test --release --locked --manifest-path models/Cargo.toml --target-dir $(target)/models -- --nocapture

memcheck: ## run a C program with the library under valgrind, and tests of the code under AddressSanitizer
	@tools/deps build memcheck
	@$(MAKE) --no-print-directory build
	DYUPS_TEST_RUNNER='valgrind -q --error-exitcode=1' $(CARGO) test $(quick) --test c_abi
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address $(CARGO) test $(quick) --target-dir $(target)/asan \
		--target x86_64-unknown-linux-gnu --lib --test table --test full

mutants: ## break the code by each patch of tests/mutants, and see the tests notice; ONLY="fence bound" for some
	@tools/deps build test
	@exec tools/mutants $(ONLY)

matrix: ## run t/ and the nginx tests on the nginx of Debian's trixie and forky; ONLY=forky for one of them
	@tools/deps build roots
	@$(MAKE) --no-print-directory build
	@exec tools/matrix $(ONLY)

newcomer: ## run `make run` and `make test` of the last commit in a bare Debian 12
	@tools/deps roots
	@exec tools/newcomer

bench: ## measure: needs a quiet machine; ONLY="find contended" for some of it
	@tools/deps build bench
	@$(MAKE) --no-print-directory build
	$(CARGO) bench $(quick) --bench bench -- $(ONLY)

lint: ## check format, lints, docs, and the rules about unsafe
	@tools/deps build lint
	@tools/lint

# Under sudo there is often no cargo: then what was built before is installed.
install: $(if $(shell command -v $(CARGO) 2>/dev/null),build) ## install below PREFIX (/usr/local); DESTDIR is honoured
	@test -f $(lib) || { echo "install: no $(lib): run make build first" >&2; exit 1; }
	@VERSION='$(VERSION)' PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' LIB='$(lib)' tools/install

header: ## write include/dyups.h anew from src/ffi
	DYUPS_WRITE_HEADER=1 $(CARGO) test --locked --test header

clean: ## remove what was built and what the demo wrote
	$(CARGO) clean
	rm -rf run
