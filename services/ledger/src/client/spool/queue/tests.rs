//! What is kept is there again, whole and in order.
