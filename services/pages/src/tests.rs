//! Tests of whole pages.

mod bodies;
mod contents;
mod document;
mod hostile_texts;
mod structure;
mod template_files;
