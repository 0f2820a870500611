// How jemalloc works in the programs that run networks. Linked into programs, never into a library.
//
// A training step allocates and frees tensors of 8 to 80 MB again and again. glibc gives each back to the kernel and
// takes fresh pages for the next: on the CPU every third second went into page faults. jemalloc keeps them, in huge
// pages. It must never give them back: with its usual decay of ten seconds a step took 1.9 s, without one 0.8 s (64^3
// window, AVX512-BF16, the other core busy). So such a program keeps the most memory that it once needed.
// Source: jemalloc(3), "TUNING". A user's MALLOC_CONF is read after this and wins.
extern "C" {
// Large allocations stay in the thread's own arena; by default each has pages of its own that go back at once.
extern const char* malloc_conf;
const char* malloc_conf = "oversize_threshold:0,thp:always,metadata_thp:auto,dirty_decay_ms:-1,muzzy_decay_ms:-1";
}
