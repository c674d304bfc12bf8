//! The settings that prevent a cause, as the YAML of the object that has them. Numbers are examples: the report says the
//! one that was measured.

/// Serve until nobody sends new connections any more.
pub(super) const PRE_STOP: &str = "\
apiVersion: apps/v1
kind: Deployment
spec:
  template:
    spec:
      terminationGracePeriodSeconds: 75        # preStop + the longest request + slack
      containers:
        - name: app
          lifecycle:
            preStop: {sleep: {seconds: 15}}    # the slowest consumer's removal + margin: `zdt report` computes it
";

/// Time to finish what is in flight.
pub(super) const GRACE: &str = "\
apiVersion: apps/v1
kind: Deployment
spec:
  template:
    spec:
      terminationGracePeriodSeconds: 75        # preStop + the longest request + slack
";

/// A signal that the application knows as an orderly stop.
pub(super) const STOP_SIGNAL: &str = "\
apiVersion: apps/v1
kind: Deployment
spec:
  template:
    spec:
      containers:
        - name: app
          lifecycle: {stopSignal: SIGQUIT}     # where the application drains on another signal than SIGTERM (nginx);
                                               # KEP-4960, else STOPSIGNAL in the image
";

/// No moment without a ready pod.
pub(super) const NO_GAP: &str = "\
apiVersion: apps/v1
kind: Deployment
spec:
  replicas: 2
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxUnavailable: 0, maxSurge: 1}
";

/// Ready means that it serves.
pub(super) const READINESS: &str = "\
apiVersion: apps/v1
kind: Deployment
spec:
  template:
    spec:
      containers:
        - name: app
          startupProbe: {httpGet: {path: /healthz, port: http}, failureThreshold: 30, periodSeconds: 2}
          readinessProbe: {httpGet: {path: /ready, port: http}, periodSeconds: 2}
";

/// A rollout that waits out the first moments of a new pod.
pub(super) const MIN_READY: &str = "\
apiVersion: apps/v1
kind: Deployment
spec:
  minReadySeconds: 15
  strategy:
    rollingUpdate: {maxUnavailable: 0}
";

/// A kubelet that does not kill what is only slow.
pub(super) const LIVENESS: &str = "\
apiVersion: apps/v1
kind: Deployment
spec:
  template:
    spec:
      containers:
        - name: app
          startupProbe: {httpGet: {path: /healthz, port: http}, failureThreshold: 30, periodSeconds: 2}
          livenessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 10, failureThreshold: 6}
";

/// Room for what the new version needs.
pub(super) const MEMORY: &str = "\
apiVersion: apps/v1
kind: Deployment
spec:
  template:
    spec:
      containers:
        - name: app
          resources: {limits: {memory: 512Mi}}
";

/// One port, the same in all places.
pub(super) const TARGET_PORT: &str = "\
apiVersion: v1
kind: Service
spec:
  ports:
    - {name: http, port: 80, targetPort: http}   # the name of the container's port, where it listens
";

/// Endpoints on every node that gets traffic, or traffic that may go to other nodes.
pub(super) const TRAFFIC_POLICY: &str = "\
apiVersion: v1
kind: Service
spec:
  externalTrafficPolicy: Cluster
";

/// A larger table of connections.
pub(super) const CONNTRACK_MAX: &str = "\
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
conntrack: {maxPerCore: 65536}
";

/// Packets out of the window are no reason to break a connection.
pub(super) const BE_LIBERAL: &str = "\
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
conntrack: {tcpBeLiberal: true}
";
