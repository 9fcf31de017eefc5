{{- define "taplane.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "taplane.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "taplane.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "taplane.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "taplane.selector" -}}
app.kubernetes.io/name: {{ include "taplane.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "taplane.labels" -}}
{{ include "taplane.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "taplane.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "taplane.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- /* Where the Secret of the login to NATS is mounted. */ -}}
{{- define "taplane.natsDir" -}}/etc/taplane/nats{{- end -}}

{{- /* Variables of a section of the agent's configuration; numbers of values are floats here, and would be written with an exponent. */ -}}
{{- define "taplane.sectionEnv" -}}
{{- $prefix := .prefix -}}
{{- range $key, $value := .section }}
{{- $variable := printf "%s_%s" $prefix ($key | snakecase | upper) }}
{{- if kindIs "map" $value }}
{{- include "taplane.sectionEnv" (dict "prefix" $variable "section" $value) }}
{{- else if kindIs "float64" $value }}
- name: {{ $variable }}
  value: {{ int64 $value | quote }}
{{- else if ne (toString $value) "" }}
- name: {{ $variable }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
{{- end -}}
