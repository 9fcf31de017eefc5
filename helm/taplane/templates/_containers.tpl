{{- /* Root without any power but these: it owns the sockets and state of the node. (list . GROUP NET_RAW) */ -}}
{{- define "taplane.securityContext" -}}
{{- $root := index . 0 -}}
privileged: false
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsUser: 0
runAsGroup: {{ int (index . 1) }}
capabilities:
  drop: [ALL]
  add: {{ ternary "[NET_ADMIN, NET_RAW]" "[NET_ADMIN]" (index . 2) }}
{{ include "taplane.seccomp" $root }}
{{- end -}}

{{- define "taplane.seccomp" -}}
seccompProfile:
  type: {{ .Values.securityContext.seccompProfile.type }}
  {{- if eq .Values.securityContext.seccompProfile.type "Localhost" }}
  localhostProfile: {{ .Values.securityContext.seccompProfile.localhostProfile | quote }}
  {{- end }}
{{- end -}}

{{- /* Resources, with the device where a plugin hands it out: (list . RESOURCES). */ -}}
{{- define "taplane.resources" -}}
{{- $root := index . 0 -}}
{{- $resources := deepCopy (index . 1 | default dict) -}}
{{- if eq $root.Values.tun.mode "devicePlugin" -}}
{{- $_ := set $resources "limits" (set ($resources.limits | default dict) $root.Values.tun.resourceName "1") -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{- define "taplane.deviceMounts" -}}
- name: runtime
  mountPath: {{ .Values.runtime.path }}
- name: tmp
  mountPath: /tmp
{{- if eq .Values.tun.mode "hostPath" }}
- name: tun
  mountPath: /dev/net/tun
{{- end }}
{{- end -}}

{{- /* An HTTP probe at the metrics port: (list . PATH FIELDS OWN-FIELDS). The kubelet is on the network of the node, as the pod is. */ -}}
{{- define "taplane.httpProbe" -}}
{{- $root := index . 0 -}}
httpGet:
  path: {{ index . 1 }}
  port: {{ int $root.Values.metrics.port }}
  {{- if eq $root.Values.metrics.address "loopback" }}
  host: {{ ternary "'::1'" "127.0.0.1" (eq $root.Values.ipFamily "IPv6") }}
  {{- end }}
{{ mergeOverwrite (deepCopy (index . 2)) (index . 3) | toYaml }}
{{- end -}}

{{- /* One lane: (list . NUMBER). */ -}}
{{- define "taplane.lane" -}}
{{- $root := index . 0 -}}
name: lane-{{ index . 1 }}
image: {{ include "taplane.image" (list $root.Values.image $root.Chart.AppVersion) | quote }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
{{- if $root.Values.lane.sidecar }}
restartPolicy: Always
{{- end }}
args: [lane, --socket, {{ include "taplane.runtimeDir" $root }}/lane-{{ index . 1 }}.sock, --stay]
{{- with $root.Values.lane.extraEnv }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
# A lane that hangs still has its socket. A process beside it asks, since the kubelet speaks to no unix socket. Patient: a node may be busy, and
# another lane begins with nothing.
livenessProbe:
  exec:
    command: [taplane, lane-check, --socket, {{ include "taplane.runtimeDir" $root }}/lane-{{ index . 1 }}.sock]
  {{- mergeOverwrite (dict "initialDelaySeconds" 10 "periodSeconds" 30 "timeoutSeconds" 20 "failureThreshold" 5) $root.Values.probes.lane | toYaml | nindent 2 }}
securityContext:
  {{- include "taplane.securityContext" (list $root 0 $root.Values.securityContext.netRaw) | nindent 2 }}
resources:
  {{- include "taplane.resources" (list $root $root.Values.lane.resources) | nindent 2 }}
volumeMounts:
  {{- include "taplane.deviceMounts" $root | nindent 2 }}
{{- end -}}
