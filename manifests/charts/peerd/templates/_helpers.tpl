{{- define "peerd.name" -}}
peerd{{ with .Values.revision }}-{{ . }}{{ end }}
{{- end }}

{{- define "peerd.standalone" -}}
{{- if eq .Values.mode "standalone" }}true{{ end }}
{{- end }}

{{/* What selects our Pods. */}}
{{- define "peerd.selector" -}}
app.kubernetes.io/name: peerd
app.kubernetes.io/instance: {{ include "peerd.name" . }}
{{- end }}

{{- define "peerd.labels" -}}
{{ include "peerd.selector" . }}
app.kubernetes.io/part-of: peerd
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "peerd.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "peerd.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "peerd.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "peerd.resources" -}}
{{- $sizes := dict
  "small" (dict "cpu" "50m" "memory" "192Mi" "limit" "768Mi")
  "medium" (dict "cpu" "250m" "memory" "512Mi" "limit" "1536Mi")
  "large" (dict "cpu" "1" "memory" "1536Mi" "limit" "3Gi") }}
{{- if .Values.resources }}
{{- toYaml .Values.resources -}}
{{- else }}
{{- $size := get $sizes .Values.size -}}
requests:
  cpu: {{ $size.cpu | quote }}
  memory: {{ $size.memory }}
limits:
  memory: {{ $size.limit }}
{{- end }}
{{- end }}

{{/* Of what exists only while the release is deleted. */}}
{{- define "peerd.hook" -}}
helm.sh/hook: pre-delete
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}
