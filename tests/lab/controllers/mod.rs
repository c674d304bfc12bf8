//! The control plane's controllers: each follows the store and writes back to it, in the order and with the delays of a real cluster.
