//! The allocator of the service: jemalloc.
//!
//! Events are parsed on one thread and freed on another, many at a time; the allocator of glibc took a fifth of the
//! service's time for that. A thread of jemalloc returns unused memory to the system, also while the service is idle.

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;
