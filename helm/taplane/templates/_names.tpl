{{- define "taplane.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- /* At most 40 characters, so that what is put behind it stays within the 63 of a label and of a DNS name. */ -}}
{{- define "taplane.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "taplane.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "taplane.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "taplane.instance" -}}
app.kubernetes.io/name: {{ include "taplane.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "taplane.selector" -}}
{{ include "taplane.instance" . }}
app.kubernetes.io/component: agent
{{- end -}}

{{- define "taplane.natsSelector" -}}
{{ include "taplane.instance" . }}
app.kubernetes.io/component: nats
{{- end -}}

{{- /* Labels of an object: (list . COMPONENT). */ -}}
{{- define "taplane.labels" -}}
{{- $root := index . 0 -}}
{{ include "taplane.instance" $root }}
app.kubernetes.io/component: {{ index . 1 }}
app.kubernetes.io/part-of: taplane
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Labels of a pod, without the chart's version: a new one alone is no reason to end a pod, and to cut traffic. (list . COMPONENT) */ -}}
{{- define "taplane.podLabels" -}}
{{ include "taplane.instance" (index . 0) }}
app.kubernetes.io/component: {{ index . 1 }}
app.kubernetes.io/part-of: taplane
{{- with (index . 0).Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "taplane.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "taplane.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- /* An image: (list IMAGE DEFAULT-TAG). */ -}}
{{- define "taplane.image" -}}
{{- $image := index . 0 -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default (index . 1) }}
{{- end -}}
{{- end -}}

{{- /* Folder of the sockets. That of an emptyDir may be written to by everybody, which the agent refuses: it makes one in it. */ -}}
{{- define "taplane.runtimeDir" -}}
{{ .Values.runtime.path }}{{ if eq .Values.runtime.type "emptyDir" }}/pod{{ end }}
{{- end -}}

{{- define "taplane.socket" -}}unix:{{ include "taplane.runtimeDir" . }}/agent.sock{{- end -}}

{{- define "taplane.apiService" -}}{{ include "taplane.fullname" . }}-api{{- end -}}

{{- define "taplane.natsName" -}}{{ include "taplane.fullname" . }}-nats{{- end -}}

{{- /* Address of a port of the node, as kubelet fills it in. */ -}}
{{- define "taplane.nodeAddress" -}}
{{- if eq .Values.ipFamily "IPv6" }}[$(TAPLANE_HOST_IP)]{{ else }}$(TAPLANE_HOST_IP){{ end -}}
{{- end -}}

{{- /* Secret with the certificate of the agents; empty without TLS. */ -}}
{{- define "taplane.tlsSecret" -}}
{{- if .Values.tls.certManager.enabled -}}
{{ include "taplane.fullname" . }}-tls
{{- else -}}
{{ .Values.tls.existingSecret }}
{{- end -}}
{{- end -}}

{{- /* ConfigMap with the policy; empty where there is none. */ -}}
{{- define "taplane.policyConfigMap" -}}
{{- if .Values.policy.existingConfigMap -}}
{{ .Values.policy.existingConfigMap }}
{{- else if .Values.policy.document -}}
{{ include "taplane.fullname" . }}-policy
{{- end -}}
{{- end -}}

{{- /* Secret of the login to NATS; empty where there is none. */ -}}
{{- define "taplane.natsSecret" -}}
{{- if eq .Values.nats.mode "external" -}}
{{ .Values.nats.external.existingSecret }}
{{- else if eq .Values.nats.mode "bundled" -}}
{{- if eq .Values.nats.bundled.tls.source "existingSecret" -}}
{{ .Values.nats.bundled.tls.existingSecret.agent }}
{{- else -}}
{{ include "taplane.natsName" . }}-agent
{{- end -}}
{{- end -}}
{{- end -}}
