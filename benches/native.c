/* What the figures are measured against, in the same process and the same run. */

#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/* A call that does nothing. */
uint32_t bench_empty(void) { return 1; }

/* n locked adds to one word, as round robin does one a pick. */
uint64_t bench_locked_adds(uint64_t *word, uint64_t n) {
    for (uint64_t i = 0; i < n; i++)
        __atomic_fetch_add(word, 1, __ATOMIC_RELAXED);
    return *word;
}

/* The bare change that another process sees, and how it is seen. */
void bench_store(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }
uint64_t bench_load(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }

/* A page that all processes which name the same file share, NULL if it cannot be had. */
uint64_t *bench_page(const char *path) {
    int fd = open(path, O_RDWR | O_CLOEXEC);
    void *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    return page == MAP_FAILED ? 0 : page;
}
