//! The kubeconfigs that point clients at the lab's API server.

use std::net::SocketAddr;

/// A kubeconfig (YAML) for the plain HTTP server at `addr`: no credentials, namespace `default`.
pub fn kubeconfig(addr: SocketAddr) -> String {
    written(addr, "{}")
}

/// The same for an operator.
pub fn operator_kubeconfig(addr: SocketAddr, token: &str) -> String {
    written(addr, &format!("{{token: {token}}}"))
}

fn written(addr: SocketAddr, user: &str) -> String {
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         current-context: lab\n\
         clusters:\n\
         - name: lab\n  cluster:\n    server: http://{addr}\n\
         contexts:\n\
         - name: lab\n  context:\n    cluster: lab\n    user: lab\n    namespace: default\n\
         users:\n\
         - name: lab\n  user: {user}\n"
    )
}
