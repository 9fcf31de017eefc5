// Values that between them reach every branch of the templates.

const secret = 'a-secret';

export const POLICY = {
  version: 1,
  roles: { viewer: { methods: ['read'], interfaces: ['*'], links: ['*'] } },
  identities: [{ uid: 0, roles: ['viewer'] }],
};

export const MATRIX: Record<string, object> = {
  defaults: {},
  'TCP with a Secret': { api: { tcp: { enabled: true } }, tls: { existingSecret: secret } },
  'TCP with cert-manager, everywhere, client CA apart': {
    api: { tcp: { enabled: true, port: 8443, address: 'all' } },
    tls: {
      clientCaSecret: 'clients',
      certManager: {
        enabled: true,
        issuerRef: { name: 'mesh', kind: 'ClusterIssuer' },
        dnsNames: ['taplane.example.org', '*.nodes.example.org'],
        ipAddresses: ['192.0.2.1', '2001:db8::1'],
        uris: ['spiffe://example.org/taplane'],
      },
    },
  },
  'IPv6, metrics for Prometheus': {
    ipFamily: 'IPv6',
    api: { tcp: { enabled: true }, service: { enabled: false } },
    tls: { existingSecret: secret },
    metrics: {
      address: 'node',
      port: 9500,
      perInterface: 10000,
      podMonitor: {
        enabled: true,
        labels: { release: 'prometheus' },
        relabelings: [{ action: 'labeldrop', regex: 'pod' }],
        metricRelabelings: [{ sourceLabels: ['__name__'], regex: 'nodejs_.*', action: 'drop' }],
      },
      prometheusRule: { enabled: true, labels: { release: 'prometheus' } },
      dashboards: { enabled: true, annotations: { folder: 'Network' } },
    },
  },
  'eight lanes, device plugin, no captures, own seccomp profile': {
    lane: { count: 8, resources: { limits: { memory: '1Gi' } } },
    tun: { mode: 'devicePlugin', resourceName: 'example.org/tun' },
    securityContext: { netRaw: false, seccompProfile: { type: 'Localhost', localhostProfile: 'profiles/taplane.json' } },
    config: { flows: { enabled: false } },
  },
  'lanes as ordinary containers, no resources': { lane: { count: 2, sidecar: false, resources: null }, agent: { resources: null } },
  'every field of the configuration': {
    config: {
      cluster: 'prod',
      logLevel: 'debug',
      flows: {
        enabled: true,
        activeTimeout: 30,
        idleTimeout: 5,
        sampling: 100,
        tableEntries: 1024,
        tableEntriesTotal: 4096,
        ringBytes: 4294967296,
        spoolBytes: 1099511627776,
        retainedBytes: 0,
        waitingBytes: 1073741824,
        format: 'json',
        delivery: 'core',
        stream: { create: false, flows: 'F', events: 'E', maxBytes: 1125899906842624, maxAgeSeconds: 315360000, replicas: 3 },
        ipfix: '[2001:db8::1]:4739',
      },
      limits: {
        interfaces: 65536,
        links: 10,
        watchers: 10,
        messageBytes: 65536,
        connections: 9,
        connectionsPerClient: 8,
        streamsPerConnection: 10,
      },
      reflection: true,
      policy: { allowDefaultRoutes: true, allowNodeRoutes: true },
      audit: { enabled: true, maxBytes: 65536, files: 2 },
    },
  },
  'a policy': { policy: { document: POLICY } },
  'a policy of another ConfigMap': { policy: { existingConfigMap: 'rules', key: 'p.yaml' } },
  'external NATS with credentials': {
    nats: {
      mode: 'external',
      external: { url: 'tls://a.example:4222,tls://b.example:4222', existingSecret: secret, credsKey: 'user.creds', caKey: 'ca.pem' },
    },
  },
  'external NATS with certificates': {
    nats: {
      mode: 'external',
      external: { url: 'tls://a.example:4222', existingSecret: secret, certKey: 'tls.crt', keyKey: 'tls.key', caKey: 'ca.crt' },
    },
  },
  'external NATS without a login': { nats: { mode: 'external', external: { url: 'nats://[2001:db8::1]:4222' } } },
  'bundled NATS': {
    nats: { mode: 'bundled' },
    networkPolicy: { natsMonitoringFrom: [{ podSelector: { matchLabels: { app: 'prometheus' } } }] },
  },
  'three bundled NATS with cert-manager': {
    nats: {
      mode: 'bundled',
      bundled: {
        replicas: 3,
        image: { repository: 'example.org/nats', digest: `sha256:${'a'.repeat(64)}` },
        tls: { source: 'certManager' },
        storage: { size: '50Gi', className: 'fast' },
        nodeSelector: { disk: 'ssd' },
        tolerations: [{ key: 'infra', operator: 'Exists' }],
        affinity: { podAntiAffinity: {} },
        priorityClassName: 'system-cluster-critical',
      },
    },
    config: { cluster: 'prod', flows: { stream: { replicas: 3 } } },
    networkPolicy: { natsFrom: [{ ipBlock: { cidr: '10.0.0.0/16' } }] },
  },
  'bundled NATS with Secrets, without policy and budget': {
    nats: {
      mode: 'bundled',
      bundled: { podDisruptionBudget: false, tls: { source: 'existingSecret', existingSecret: { server: 's', agent: 'a' } } },
    },
    networkPolicy: { enabled: false },
  },
  'everything else': {
    nameOverride: 'tap',
    fullnameOverride: 'node-agent',
    commonLabels: { team: 'net' },
    image: { repository: 'images.example:5000/net/taplane', digest: `sha256:${'0'.repeat(64)}`, pullPolicy: 'Always' },
    imagePullSecrets: [{ name: 'pull' }],
    agent: {
      extraArgs: ['--log-level', 'debug'],
      extraEnv: [{ name: 'TAPLANE_DEBUG', value: 'netlink' }],
      extraVolumeMounts: [{ name: 'more', mountPath: '/more', readOnly: true }],
    },
    lane: { extraEnv: [{ name: 'NODE_OPTIONS', value: '--trace-warnings' }] },
    extraVolumes: [{ name: 'more', configMap: { name: 'more' } }],
    runtime: { type: 'emptyDir', path: '/run/other', socketGroup: 2000 },
    state: { path: '/srv/taplane' },
    serviceAccount: { create: false },
    podLabels: { app: 'x' },
    podAnnotations: { note: 'y' },
    priorityClassName: '',
    nodeSelector: { pool: 'edge' },
    tolerations: [],
    affinity: { nodeAffinity: {} },
    updateStrategy: { type: 'OnDelete' },
    terminationGracePeriodSeconds: 60,
    probes: {
      startup: { failureThreshold: 100 },
      liveness: { periodSeconds: 30 },
      readiness: { timeoutSeconds: 9 },
      lane: { periodSeconds: 60 },
    },
    extraObjects: [
      { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: '{{ .Release.Name }}-more' }, data: { a: 'b' } },
      'apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: text\n',
    ],
  },
};
