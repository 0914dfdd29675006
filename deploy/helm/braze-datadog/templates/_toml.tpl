{{- /* Values as TOML. Helm's own toToml writes every whole number of values as a float: lanes = 2.0. */}}
{{- define "braze-datadog.tomlKey" -}}
{{ if regexMatch "^[A-Za-z0-9_-]+$" . }}{{ . }}{{ else }}{{ toJson . }}{{ end }}
{{- end }}

{{- define "braze-datadog.tomlValue" -}}
{{- if kindIs "slice" . -}}
[{{ range $index, $item := . }}{{ if $index }}, {{ end }}{{ include "braze-datadog.tomlValue" $item }}{{ end }}]
{{- else if kindIs "string" . -}}
{{ toJson . }}
{{- else if kindIs "bool" . -}}
{{ . }}
{{- else if eq (float64 .) (floor .) -}}
{{ printf "%d" (int64 .) }}
{{- else -}}
{{ . }}
{{- end }}
{{- end }}

{{- /* A table and those in it; `path` is what stands in its brackets. */}}
{{- define "braze-datadog.toml" -}}
{{- $path := .path -}}
{{- range $key, $value := .table -}}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}
{{ include "braze-datadog.tomlKey" $key }} = {{ include "braze-datadog.tomlValue" $value }}
{{- end }}
{{- end }}
{{- range $key, $value := .table -}}
{{- if kindIs "map" $value }}
{{- $inner := printf "%s%s" (ternary (printf "%s." $path) "" (ne $path "")) (include "braze-datadog.tomlKey" $key) }}

[{{ $inner }}]
{{- include "braze-datadog.toml" (dict "path" $inner "table" $value) }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The whole configuration: that of the values, and what the chart sets. */}}
{{- define "braze-datadog.config" -}}
{{- $state := "/var/lib/braze-datadog" -}}
{{- $set := dict
    "connections_directory" "/etc/braze-datadog/connections"
    "shutdown_timeout" (printf "%ds" (int64 .Values.shutdownTimeoutSeconds))
    "admin" (dict "listen" (printf "%s:8081" .Values.listenAddress))
    "history" (dict "directory" (printf "%s/history" $state))
    "queue" (dict "kind" .Values.queue.kind "embedded" (dict "directory" (printf "%s/queue" $state))) -}}
{{- if eq .Values.queue.kind "embedded" -}}
{{- $push := dict
    "listen" (printf "%s:8080" .Values.listenAddress)
    "token_file" "/etc/braze-datadog/push/tokens" -}}
{{- if .Values.push.tls.existingSecret -}}
{{- $push = merge $push (dict
    "tls_certificate" "/etc/braze-datadog/push-tls/tls.crt"
    "tls_key" "/etc/braze-datadog/push-tls/tls.key") -}}
{{- end -}}
{{- $_ := set $set "push" $push -}}
{{- else if eq .Values.queue.kind "storage" -}}
{{- $_ := set $set.queue "storage" (dict "state_directory" (printf "%s/storage" $state)) -}}
{{- end -}}
# Made by the chart from its values; docs/configuration.md has every key.
{{ include "braze-datadog.toml" (dict "path" "" "table" (mergeOverwrite (deepCopy .Values.config) $set)) | trim }}
{{ end }}
