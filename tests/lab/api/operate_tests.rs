//! Operators, with the real kube client.
