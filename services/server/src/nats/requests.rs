//! Messages whose publishers wait for the answer. Each process answers those that the server gives it.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use ledger_api::ProblemKind;
use ledger_domain::TenantName;
use ledger_journal::jetstream::{Connection, Request, Requests};
use ledger_streams::inbound::Receiver;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::publisher_queues::{Batch, PublisherQueues};
use super::responses::{inbound, problem, response, route};

/// Maximum size of the messages of a tenant that wait for their answer. Others are answered immediately, with a problem.
const BYTE_BUDGET: usize = 32 << 20;
/// The same for one publisher: the others have the rest.
const PUBLISHER_BUDGET: usize = BYTE_BUDGET / 4;
/// Maximum number of publishers of a tenant whose messages are recorded at a time.
const MAX_CALLS: usize = 8;
/// Delay before another attempt to subscribe.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Answers the messages for a tenant until the token is cancelled. Messages in progress are answered first.
pub(super) async fn serve(
    tenant: TenantName,
    connection: Connection,
    receiver: Arc<dyn Receiver>,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        match connection.requests(&tenant).await {
            Ok(requests) => answer_all(&tenant, requests, &receiver, &stop).await,
            Err(error) => warn!(%tenant, %error, "cannot receive messages from NATS; retrying"),
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(RETRY_DELAY) => {}
        }
    }
}

async fn answer_all(
    tenant: &TenantName,
    mut requests: Requests,
    receiver: &Arc<dyn Receiver>,
    stop: &CancellationToken,
) {
    let mut queues = PublisherQueues::new();
    let mut calls = FuturesUnordered::new();
    loop {
        while calls.len() < MAX_CALLS
            && let Some(batch) = queues.next_batch()
        {
            calls.push(answer(tenant, receiver.as_ref(), batch));
        }
        tokio::select! {
            () = stop.cancelled() => break,
            Some((publisher, bytes)) = calls.next() => {
                queues.finish(&publisher, bytes, Vec::new(), Instant::now());
            }
            request = requests.next() => match request {
                Some(request)
                    if queues.bytes() > BYTE_BUDGET
                        || queues.bytes_of(&request.content().publisher) > PUBLISHER_BUDGET =>
                {
                    let detail = "too many messages wait to be recorded; send this one again later";
                    let (media_type, body) = problem(ProblemKind::Busy, detail);
                    request.respond(media_type, body.into()).await;
                }
                Some(request) => queues.push(request),
                None => break,
            },
        }
    }
    requests.unsubscribe().await;
    while let Some(request) = requests.next().await {
        queues.push(request);
    }
    let closing = "the service is shutting down; send the message again";
    for request in queues.drain() {
        let (media_type, body) = problem(ProblemKind::Closing, closing);
        request.respond(media_type, body.into()).await;
    }
    while calls.next().await.is_some() {}
}

/// Records messages of a publisher and answers them. Returns the publisher and the size of the messages.
async fn answer(tenant: &TenantName, receiver: &dyn Receiver, batch: Batch<Request>) -> (String, usize) {
    let Batch { publisher, messages, bytes } = batch;
    let contents = messages.iter().map(|message| inbound(message.content())).collect();
    let receipts = receiver.receive(&route(tenant, &publisher), contents).await;
    for (message, receipt) in messages.into_iter().zip(receipts) {
        let (media_type, body) = response(&receipt);
        message.respond(media_type, body.into()).await;
    }
    (publisher, bytes)
}
