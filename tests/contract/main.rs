//! What others rely on is what the code does: the schemas, held against the parser.

mod events;
