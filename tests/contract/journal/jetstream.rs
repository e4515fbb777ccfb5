//! Rules that only a journal on a server can break: its stream, its server, and the connection to it.

mod acknowledgement;
mod consumers;
mod crash;
mod expected;
mod following;
mod older_copy;
mod rejections;
mod stream;
