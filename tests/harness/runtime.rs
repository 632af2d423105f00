//! The harness's own runtime.

use std::sync::LazyLock;

use tokio::runtime::{Builder, Runtime};

/// Each test has a runtime that ends with it; the provider, the proxies and clean-up must outlive it.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).thread_name("harness").enable_all().build().expect("a runtime")
});

/// Runs a future there.
pub fn spawn<F>(future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    RUNTIME.spawn(future)
}

/// Runs a future there that must not be sent between threads.
pub fn run<F>(make: impl FnOnce() -> F + Send + 'static) -> tokio::task::JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static>,
{
    RUNTIME.spawn_blocking(move || RUNTIME.block_on(make()))
}
