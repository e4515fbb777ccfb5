//! What only a journal on a server can break: its stream, its server, and the way there.

mod acknowledgement;
mod consumers;
mod crash;
mod expected;
mod following;
mod refusal;
mod stream;
