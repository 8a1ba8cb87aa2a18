{{- define "gateway.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "gateway.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: gateway
{{- end }}

{{- define "gateway.redisSelector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: redis
{{- end }}

{{- define "gateway.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* Settings as a file. What the chart decides comes last, over what config says. */}}
{{- define "gateway.settings" -}}
{{- $shutdown := dict "grace" .Values.shutdown.grace "drain_time" .Values.shutdown.drainTime "drain_rate" .Values.shutdown.drainRate }}
{{- $server := dict "address" "0.0.0.0" "port" 8000 }}
{{- range $name := list "tls" "internal_port" "internal_address" "proxy_protocol" }}
{{- if hasKey (dig "http_server" (dict) $.Values.config) $name }}{{ fail (printf "config.http_server.%s: the chart's probes ask for http at port 8000" $name) }}{{ end }}
{{- end }}
{{- with .Values.trustedProxies }}{{ $_ := set $server "forwarded_allow_ips" (join "," .) }}{{ end }}
{{- $ours := dict "shutdown" $shutdown "http_server" $server "engine" (dict "type" "redis") }}
{{- if .Values.redis.bundled }}
{{- $_ := set $ours.engine "redis" (dict "address" (printf "redis://%s-redis:6379" (include "gateway.name" .))) }}
{{- else if .Values.redis.url }}
{{- $_ := set $ours.engine "redis" (dict "address" .Values.redis.url) }}
{{- else if not .Values.secrets.redisUrl.name }}
{{- fail "no Redis: set redis.bundled=true, redis.url, or secrets.redisUrl.name" }}
{{- end }}
{{- mergeOverwrite (deepCopy .Values.config) $ours | toPrettyJson }}
{{- end }}

{{- define "gateway.secret" -}}
{{- if .secret.name }}
- name: {{ .variable }}
  valueFrom:
    secretKeyRef: {{ .secret | toJson }}
{{- end }}
{{- end }}

{{- define "gateway.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
