// What the chart makes of many values: the same each time, valid to Kubernetes, and with no more power than it must have.

import { describe, expect, test } from 'vitest';
import { type Any, CHART, containersOf, hasHelm, helm, podOf, type Rendered, render, renderAnew, withHelm } from './chart.ts';
import { kubectlViolations, semanticViolations, typeViolations } from './kubernetes-check.ts';
import { MATRIX, POLICY } from './matrix.ts';

const rendered = new Map<string, Rendered>(hasHelm ? Object.entries(MATRIX).map(([name, values]) => [name, render(values)]) : []);
const each = [...rendered];
const of = (name: string) => rendered.get(name) as Rendered;

withHelm('helm lint --strict finds nothing', () => {
  const { code, stdout, stderr } = helm(['lint', '--strict', CHART]);
  expect(code, stdout + stderr).toBe(0);
});

describe.skipIf(!hasHelm)('Kubernetes', () => {
  test('has these fields, with these types, and no others', () => {
    const spoilt = (name: string, spoil: (spec: Any) => void, kind = 'DaemonSet') => {
      const object = structuredClone(of('IPv6, metrics for Prometheus').one(kind));
      object.metadata.name = name;
      spoil(object.spec);
      return object;
    };
    // Checked with the others, since a run of the compiler takes a second.
    const violations = typeViolations([
      ...each.flatMap(([, { objects }]) => objects),
      spoilt('misspelt', (spec) => Object.assign(spec.template.spec, { hostNetwrk: true })),
      spoilt('mistyped', (spec) => Object.assign(spec, { minReadySeconds: '5' })),
      spoilt('wanting', (spec) => delete spec.selector),
      spoilt('custom', (spec) => Object.assign(spec, { selectr: {} }), 'PodMonitor'),
    ]);
    expect(violations.sort()).toEqual([
      expect.stringMatching(/^DaemonSet misspelt: "hostNetwrk": true,?: /),
      expect.stringMatching(/^DaemonSet mistyped: "minReadySeconds": "5",?: /),
      expect.stringMatching(/^DaemonSet wanting: "spec": .*Property 'selector' is missing/),
      expect.stringMatching(/^PodMonitor custom: spec: Unrecognized key: "selectr"/),
    ]);
  });

  test('kubectl reads every object with a pod, and loses nothing of it', () => {
    const all = each.flatMap(([, { objects }]) => objects);
    expect(all.filter((object) => podOf(object) !== undefined).length).toBeGreaterThan(30);
    expect(kubectlViolations(all)).toEqual([]);
  });

  test.each(each)('would admit %s: names, labels, selectors, mounts and ports', (_, { objects }) => {
    expect(semanticViolations(objects)).toEqual([]);
  });

  test('kubectl and these rules can fail', () => {
    const bad = () => structuredClone(of('defaults').one('DaemonSet'));
    const misspelt = bad();
    misspelt.spec.template.spec.hostNetwrk = true;
    expect(kubectlViolations([misspelt])).toEqual(['DaemonSet demo-taplane.spec.template.spec.hostNetwrk: true became undefined']);
    misspelt.spec.template.spec.containers[0].resources = { limits: { memory: 'lots' } };
    expect(kubectlViolations([misspelt]).join()).toMatch(/quantities must match/);
    const loose = bad();
    loose.spec.template.spec.volumes.pop();
    loose.spec.template.metadata.labels = {};
    expect(semanticViolations([loose]).join()).toMatch(/selects .*mounts config, which is no volume/);
  });
});

withHelm('rendering twice makes the same', () => {
  // Certificates that helm makes are new each time without a cluster to look into: the one thing that may differ.
  const random = /^ {2}(tls\.crt|tls\.key|ca\.crt): .*$/gm;
  for (const name of ['defaults', 'IPv6, metrics for Prometheus', 'bundled NATS', 'three bundled NATS with cert-manager']) {
    const { text } = of(name);
    const again = renderAnew(MATRIX[name] as object).text;
    if (name === 'bundled NATS') expect(again.replace(random, '')).toBe(text.replace(random, ''));
    else expect(again).toBe(text);
  }
});

describe.skipIf(!hasHelm)('the agent has no more power than it must have', () => {
  test.each(each)('%s', (name, { all }) => {
    const set = all('DaemonSet');
    expect(set).toHaveLength(1);
    const pod = podOf(set[0] as never);
    expect(pod).toMatchObject({
      hostNetwork: true,
      dnsPolicy: 'ClusterFirstWithHostNet',
      automountServiceAccountToken: false,
      enableServiceLinks: false,
    });
    for (const power of ['hostPID', 'hostIPC', 'shareProcessNamespace', 'hostUsers', 'securityContext'])
      expect(pod).not.toHaveProperty(power);
    const hasDevice = name !== 'eight lanes, device plugin, no captures, own seccomp profile';
    const isCapturing = hasDevice;
    const seccompProfile = hasDevice ? { type: 'RuntimeDefault' } : { type: 'Localhost', localhostProfile: 'profiles/taplane.json' };
    const paths = pod.volumes.flatMap((volume: { hostPath?: object }) => volume.hostPath ?? []);
    const isOther = name === 'everything else';
    expect(paths).toEqual([
      { path: isOther ? '/srv/taplane' : '/var/lib/taplane', type: 'DirectoryOrCreate' },
      ...(isOther ? [] : [{ path: '/run/taplane', type: 'DirectoryOrCreate' }]),
      ...(hasDevice ? [{ path: '/dev/net/tun', type: 'CharDevice' }] : []),
    ]);
    for (const container of containersOf(set[0] as never)) {
      const isLane = container.name.startsWith('lane-');
      expect(container.securityContext).toEqual({
        privileged: false,
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        runAsUser: 0,
        // The sockets of the lanes are for the agent alone.
        runAsGroup: isOther && !isLane ? 2000 : 0,
        capabilities: { drop: ['ALL'], add: isLane && isCapturing ? ['NET_ADMIN', 'NET_RAW'] : ['NET_ADMIN'] },
        seccompProfile,
      });
      // Keys, and what was asked for, are the agent's alone; so are logins and certificates.
      const mounts = container.volumeMounts.map((mount: { name: string }) => mount.name);
      if (isLane) expect(mounts).toEqual(['runtime', 'tmp', ...(hasDevice ? ['tun'] : [])]);
      expect(container.resources.limits?.['example.org/tun']).toBe(hasDevice ? undefined : '1');
    }
  });

  test.each(each)('nobody else has any: %s', (_, { objects }) => {
    for (const object of objects.filter(({ kind }) => kind !== 'DaemonSet')) {
      for (const { securityContext } of containersOf(object))
        expect(securityContext).toMatchObject({
          privileged: false,
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'] },
        });
      for (const { securityContext } of containersOf(object)) expect(securityContext.capabilities).not.toHaveProperty('add');
      expect(podOf(object)?.hostNetwork).toBeUndefined();
      expect(object.kind).not.toMatch(/Role/);
      if (object.kind === 'ServiceAccount') expect(object.automountServiceAccountToken).toBe(false);
    }
  });

  test.each(each)('no secret is anywhere but in a Secret: %s', (_, { objects, all }) => {
    const secrets = all('Secret').flatMap(({ data = {} }) => [
      data['tls.key'] as string,
      Buffer.from(data['tls.key'] as string, 'base64').toString(),
    ]);
    const rest = JSON.stringify(objects.filter(({ kind }) => kind !== 'Secret'));
    expect(rest).not.toContain('PRIVATE KEY');
    for (const secret of secrets) expect(rest).not.toContain(secret);
    expect(rest).not.toContain('secretKeyRef');
    for (const volume of objects.flatMap((object) => podOf(object)?.volumes ?? []))
      if (volume.secret) expect([0o400, 0o440]).toContain(volume.secret.defaultMode);
  });
});

describe.skipIf(!hasHelm)('the pod', () => {
  test('has the agent, and a lane of its own for each number, which starts before it and outlives it', () => {
    const { initContainers, containers } = podOf(of('eight lanes, device plugin, no captures, own seccomp profile').one('DaemonSet'));
    expect(containers.map(({ name }: { name: string }) => name)).toEqual(['agent']);
    expect(initContainers).toHaveLength(8);
    expect(initContainers[7]).toMatchObject({
      name: 'lane-7',
      restartPolicy: 'Always',
      args: ['lane', '--socket', '/run/taplane/lane-7.sock', '--stay'],
    });
    const plain = podOf(of('lanes as ordinary containers, no resources').one('DaemonSet'));
    expect(plain.initContainers).toBeUndefined();
    expect(plain.containers.map(({ name }: { name: string }) => name)).toEqual(['agent', 'lane-0', 'lane-1']);
    expect(plain.containers[1]).not.toHaveProperty('restartPolicy');
  });

  test('is asked by the kubelet where the agent listens', () => {
    const probes = (name: string) => podOf(of(name).one('DaemonSet')).containers[0];
    const at = { port: 9464, host: '127.0.0.1' };
    expect(probes('defaults').startupProbe.httpGet).toEqual({ path: '/livez', ...at });
    expect(probes('defaults').livenessProbe.httpGet).toEqual({ path: '/livez', ...at });
    expect(probes('defaults').readinessProbe.httpGet).toEqual({ path: '/readyz', ...at });
    const [lane] = podOf(of('everything else').one('DaemonSet')).initContainers;
    expect(lane.livenessProbe).toEqual({
      exec: { command: ['taplane', 'lane-check', '--socket', '/run/other/pod/lane-0.sock'] },
      ...{ initialDelaySeconds: 10, periodSeconds: 60, timeoutSeconds: 20, failureThreshold: 5 },
    });
    // The address of a pod on the host network is that of the node.
    expect(probes('IPv6, metrics for Prometheus').livenessProbe.httpGet).toEqual({ path: '/livez', port: 9500 });
    expect(probes('everything else')).toMatchObject({
      startupProbe: { failureThreshold: 100, periodSeconds: 2 },
      livenessProbe: { periodSeconds: 30 },
    });
  });

  test('is updated one node after another, and ends in order', () => {
    const { spec } = of('defaults').one('DaemonSet');
    expect(spec.updateStrategy).toEqual({ type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 1, maxSurge: 0 } });
    expect(spec.template.spec).toMatchObject({
      terminationGracePeriodSeconds: 30,
      priorityClassName: 'system-node-critical',
      tolerations: [{ operator: 'Exists' }],
      nodeSelector: { 'kubernetes.io/os': 'linux' },
    });
    expect(of('everything else').one('DaemonSet').spec.updateStrategy).toEqual({ type: 'OnDelete' });
  });

  test('ends for a new configuration, and for nothing that running agents take up', () => {
    const pod = (values: object) => JSON.stringify(render(values).one('DaemonSet').spec.template);
    const base = MATRIX['a policy'] as object;
    expect(pod({ policy: { document: { ...POLICY, identities: [] } } })).toBe(pod(base));
    expect(pod({ ...base, config: { logLevel: 'debug' } })).not.toBe(pod(base));
  });

  test('of the test is a client without any power', () => {
    const hook = of('defaults').one('Pod');
    expect(hook.metadata.annotations?.['helm.sh/hook']).toBe('test');
    expect(hook.spec.containers[0].args).toEqual(['--server', 'unix:/run/taplane/agent.sock', 'node', 'status']);
    expect(of('everything else').all('Pod')).toEqual([]);
  });
});

describe.skipIf(!hasHelm)('monitoring', () => {
  test('scrapes a port that the pods have', () => {
    const { one } = of('IPv6, metrics for Prometheus');
    const monitor = one('PodMonitor');
    const [endpoint] = monitor.spec.podMetricsEndpoints;
    expect(monitor.metadata.labels).toMatchObject({ release: 'prometheus' });
    expect(podOf(one('DaemonSet')).containers[0].ports).toContainEqual({ name: endpoint.port, containerPort: 9500 });
    expect(endpoint.relabelings[0]).toEqual({ sourceLabels: ['__meta_kubernetes_pod_node_name'], targetLabel: 'node' });
  });
});
