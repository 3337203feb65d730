{{- define "peering.labels" -}}
app.kubernetes.io/name: peering
app.kubernetes.io/part-of: peerd
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
