{{- define "taplane.natsHeadless" -}}{{ include "taplane.natsName" . }}-headless{{- end -}}

{{- define "taplane.natsServerSecret" -}}
{{- if eq .Values.nats.bundled.tls.source "existingSecret" -}}
{{ .Values.nats.bundled.tls.existingSecret.server }}
{{- else -}}
{{ include "taplane.natsName" . }}-server
{{- end -}}
{{- end -}}

{{- /* Names that clients and other servers know a server by, one a line. */ -}}
{{- define "taplane.natsDnsNames" -}}
{{- $service := printf "%s.%s" (include "taplane.natsName" .) .Release.Namespace -}}
{{- $headless := printf "*.%s.%s" (include "taplane.natsHeadless" .) .Release.Namespace -}}
{{- list $service (printf "%s.svc" $service) $headless (printf "%s.svc" $headless) | toYaml -}}
{{- end -}}

{{- define "taplane.natsTls" -}}
cert_file: "/etc/nats-tls/tls.crt"
key_file: "/etc/nats-tls/tls.key"
ca_file: "/etc/nats-tls/ca.crt"
{{- end -}}

{{- define "taplane.natsConfig" -}}
{{- $cluster := .Values.config.cluster | default "default" -}}
server_name: $POD_NAME
listen: "{{ ternary "[::]" "0.0.0.0" (eq .Values.ipFamily "IPv6") }}:4222"
http: "{{ ternary "[::]" "0.0.0.0" (eq .Values.ipFamily "IPv6") }}:8222"

# For reload.mjs.
pid_file: "/var/run/nats/nats.pid"

jetstream {
  store_dir: "/data/jetstream"
  max_file_store: {{ .Values.nats.bundled.maxFileStore }}
  max_memory_store: 0
  # What is acknowledged is on the disk.
  sync_interval: always
}

# Whoever connects shows a certificate, whose subject is its user.
tls {
  {{- include "taplane.natsTls" . | nindent 2 }}
  verify_and_map: true
  timeout: 5
}

authorization {
  users: [
    {
      user: "CN=taplane-agent"
      permissions: {
        publish: [
          "taplane.v1.{{ $cluster }}.>"
          "$JS.API.INFO", "$JS.API.STREAM.NAMES"
          {{- range list (dig "stream" "flows" "TAPLANE_FLOWS" .Values.config.flows) (dig "stream" "events" "TAPLANE_EVENTS" .Values.config.flows) }}
          "$JS.API.STREAM.INFO.{{ . }}", "$JS.API.STREAM.MSG.GET.{{ . }}", "$JS.API.STREAM.CREATE.{{ . }}"
          {{- end }}
        ]
        # Answers come to _INBOX_<node>, which no wildcard matches; what others say is not for agents.
        subscribe: { allow: ">", deny: ["taplane.v1.>", "$JS.>", "$SYS.>"] }
      }
    }
    {
      user: "CN=taplane-reader"
      permissions: {
        publish: ["$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.API.STREAM.INFO.*", "$JS.API.STREAM.MSG.GET.*", "$JS.API.CONSUMER.>", "$JS.ACK.>", "$JS.FC.>"]
        subscribe: ["taplane.v1.{{ $cluster }}.>", "_INBOX.>", "_INBOX_reader.>"]
      }
    }
  ]
}
{{- $replicas := int .Values.nats.bundled.replicas }}
{{- if gt $replicas 1 }}

cluster {
  name: "{{ include "taplane.natsName" . }}"
  listen: "{{ ternary "[::]" "0.0.0.0" (eq .Values.ipFamily "IPv6") }}:6222"
  routes: [
    {{- range until $replicas }}
    "tls://{{ include "taplane.natsName" $ }}-{{ . }}.{{ include "taplane.natsHeadless" $ }}.{{ $.Release.Namespace }}.svc:6222"
    {{- end }}
  ]
  tls {
    {{- include "taplane.natsTls" . | nindent 4 }}
    verify: true
    timeout: 5
  }
}
{{- end }}
{{- end -}}

{{- /* A Secret of certificates, in base64: (list . NAME DATA). */ -}}
{{- define "taplane.natsCertificate" -}}
{{- $root := index . 0 -}}
apiVersion: v1
kind: Secret
metadata:
  name: {{ index . 1 }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "taplane.labels" (list $root "nats") | nindent 4 }}
type: kubernetes.io/tls
data:
  {{- range $key, $value := index . 2 }}
  {{ $key }}: {{ $value }}
  {{- end }}
{{- end -}}
