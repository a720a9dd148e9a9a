/* What the rows of the bench are measured against, in the same process and the same run. */

#include <stdint.h>

/* A call that does nothing. */
uint32_t bench_empty(void) { return 1; }

/* n locked adds to one word, as round robin does one a pick. */
uint64_t bench_locked_adds(uint64_t n) {
    static uint64_t word;
    for (uint64_t i = 0; i < n; i++)
        __atomic_fetch_add(&word, 1, __ATOMIC_RELAXED);
    return word;
}
