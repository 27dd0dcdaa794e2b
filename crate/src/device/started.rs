//! A future that begins when it is made.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Runs a future up to its first wait at once, and the rest when it is awaited.
pub(super) enum Started<T> {
    Waiting(Pin<Box<dyn Future<Output = T>>>),
    Done(Option<T>),
}

impl<T> Started<T> {
    pub fn new(future: impl Future<Output = T> + 'static) -> Self {
        let mut future: Pin<Box<dyn Future<Output = T>>> = Box::pin(future);
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Self::Done(Some(value)),
            Poll::Pending => Self::Waiting(future),
        }
    }
}

// The value is only ever moved out whole.
impl<T> Unpin for Started<T> {}

impl<T> Future for Started<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match &mut *self {
            Self::Waiting(future) => future.as_mut().poll(context),
            Self::Done(value) => match value.take() {
                Some(value) => Poll::Ready(value),
                // Nothing polls a future after its end.
                None => Poll::Pending,
            },
        }
    }
}
