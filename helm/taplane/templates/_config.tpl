{{- /* The agent's configuration file: what values.config says, and what follows from other values. */ -}}
{{- define "taplane.config" -}}
{{- $config := dict "stateDir" .Values.state.path "runtimeDir" (include "taplane.runtimeDir" .) "laneMode" "external" "lanes" (int .Values.lane.count) -}}
{{- range $key, $value := .Values.config -}}
{{- if not (and (kindIs "map" $value) (empty $value)) -}}
{{- $_ := set $config $key $value -}}
{{- end -}}
{{- end -}}
{{- $listen := list (include "taplane.socket" .) -}}
{{- if and .Values.api.tcp.enabled (eq .Values.api.tcp.address "all") -}}
{{- $listen = append $listen (printf "%s:%d" (ternary "[::]" "0.0.0.0" (eq .Values.ipFamily "IPv6")) (int .Values.api.tcp.port)) -}}
{{- end -}}
{{- $_ := set $config "listen" $listen -}}
{{- if include "taplane.tlsSecret" . -}}
{{- $ca := ternary "client-ca" "tls" (ne .Values.tls.clientCaSecret "") -}}
{{- $_ := set $config "tls" (dict
  "certFile" (printf "/etc/taplane/tls/%s" .Values.tls.certKey)
  "keyFile" (printf "/etc/taplane/tls/%s" .Values.tls.keyKey)
  "clientCaFile" (printf "/etc/taplane/%s/%s" $ca .Values.tls.clientCaKey)) -}}
{{- end -}}
{{- if include "taplane.policyConfigMap" . -}}
{{- $_ := set $config "policyFile" (printf "/etc/taplane/policy/%s" (ternary .Values.policy.key "policy.yaml" (ne .Values.policy.existingConfigMap ""))) -}}
{{- end -}}
{{- $metrics := dict "listen" (printf "%s:%d" (ternary "[::1]" "127.0.0.1" (eq .Values.ipFamily "IPv6")) (int .Values.metrics.port)) "perInterface" (int .Values.metrics.perInterface) -}}
{{- if eq .Values.metrics.address "node" -}}
{{- $_ := set $metrics "allowRemote" true -}}
{{- end -}}
{{- $_ := set $config "metrics" $metrics -}}
{{- $_ := set $config "nats" "off" -}}
{{- if eq .Values.nats.mode "external" -}}
{{- $_ := set $config "nats" .Values.nats.external.url -}}
{{- if .Values.nats.external.existingSecret -}}
{{- range $field, $key := dict "natsCredsFile" .Values.nats.external.credsKey "natsNkeyFile" .Values.nats.external.nkeyKey "natsTlsCaFile" .Values.nats.external.caKey "natsTlsCertFile" .Values.nats.external.certKey "natsTlsKeyFile" .Values.nats.external.keyKey -}}
{{- if $key -}}
{{- $_ := set $config $field (printf "/etc/taplane/nats/%s" $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- else if eq .Values.nats.mode "bundled" -}}
{{- $_ := set $config "nats" (printf "tls://%s.%s.svc:4222" (include "taplane.natsName" .) .Release.Namespace) -}}
{{- $_ := set $config "natsTlsCaFile" "/etc/taplane/nats/ca.crt" -}}
{{- $_ := set $config "natsTlsCertFile" "/etc/taplane/nats/tls.crt" -}}
{{- $_ := set $config "natsTlsKeyFile" "/etc/taplane/nats/tls.key" -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}
