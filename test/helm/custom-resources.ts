// The custom resources that the chart makes, as far as it makes them: strict, so that a misspelt field is none. Shapes are those of the
// definitions of prometheus-operator (monitoring.coreos.com/v1) and cert-manager (cert-manager.io/v1).

import { z } from 'zod';

const metadata = z.strictObject({
  name: z.string(),
  namespace: z.string(),
  labels: z.record(z.string(), z.string()),
  annotations: z.record(z.string(), z.string()).optional(),
});
const duration = z.string().regex(/^(\d+h)?(\d+m)?(\d+s)?$/);
const name = z.string().regex(/^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/);

const relabeling = z.strictObject({
  sourceLabels: z.array(z.string()).optional(),
  separator: z.string().optional(),
  targetLabel: z.string().optional(),
  regex: z.string().optional(),
  modulus: z.int().optional(),
  replacement: z.string().optional(),
  action: z
    .enum(['replace', 'keep', 'drop', 'hashmod', 'labelmap', 'labeldrop', 'labelkeep', 'lowercase', 'uppercase', 'keepequal', 'dropequal'])
    .optional(),
});

const podMonitor = z.strictObject({
  apiVersion: z.literal('monitoring.coreos.com/v1'),
  kind: z.literal('PodMonitor'),
  metadata,
  spec: z.strictObject({
    selector: z.strictObject({ matchLabels: z.record(z.string(), z.string()) }),
    podMetricsEndpoints: z.array(
      z.strictObject({
        port: z.string(),
        path: z.string().startsWith('/'),
        interval: duration,
        scrapeTimeout: duration,
        relabelings: z.array(relabeling),
        metricRelabelings: z.array(relabeling).optional(),
      }),
    ),
  }),
});

const rule = z.strictObject({
  alert: z.string().optional(),
  record: z.string().optional(),
  expr: z.union([z.string().min(1), z.number()]),
  for: duration.optional(),
  keep_firing_for: duration.optional(),
  labels: z.record(z.string(), z.string()).optional(),
  annotations: z.record(z.string(), z.string()).optional(),
});

const prometheusRule = z.strictObject({
  apiVersion: z.literal('monitoring.coreos.com/v1'),
  kind: z.literal('PrometheusRule'),
  metadata,
  spec: z.strictObject({
    groups: z
      .array(
        z.strictObject({ name: z.string().min(1), interval: duration.optional(), limit: z.int().optional(), rules: z.array(rule).min(1) }),
      )
      .min(1),
  }),
});

const issuerRef = z.strictObject({ name, kind: z.string(), group: z.string() });
const certificate = z.strictObject({
  apiVersion: z.literal('cert-manager.io/v1'),
  kind: z.literal('Certificate'),
  metadata,
  spec: z
    .strictObject({
      secretName: name,
      isCA: z.boolean().optional(),
      commonName: z.string().max(64).optional(),
      duration,
      renewBefore: duration.optional(),
      privateKey: z.strictObject({
        algorithm: z.enum(['RSA', 'ECDSA', 'Ed25519']),
        size: z.int(),
        rotationPolicy: z.enum(['Never', 'Always']).optional(),
      }),
      usages: z.array(z.enum(['digital signature', 'key encipherment', 'server auth', 'client auth', 'cert sign'])).optional(),
      dnsNames: z.array(z.string()).optional(),
      ipAddresses: z.array(z.string()).optional(),
      uris: z.array(z.string()).optional(),
      issuerRef,
    })
    .refine((spec) => spec.commonName ?? spec.dnsNames ?? spec.ipAddresses ?? spec.uris, 'names nobody'),
});
const issuer = z.strictObject({
  apiVersion: z.literal('cert-manager.io/v1'),
  kind: z.literal('Issuer'),
  metadata,
  spec: z.union([z.strictObject({ selfSigned: z.strictObject({}) }), z.strictObject({ ca: z.strictObject({ secretName: name }) })]),
});

export const CUSTOM: Record<string, z.ZodType> = {
  PodMonitor: podMonitor,
  PrometheusRule: prometheusRule,
  Certificate: certificate,
  Issuer: issuer,
};
