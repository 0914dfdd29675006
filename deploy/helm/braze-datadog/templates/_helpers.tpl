{{- define "braze-datadog.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "braze-datadog.fullname" -}}
{{- $name := include "braze-datadog.name" . -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains $name .Release.Name -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "braze-datadog.selector" -}}
app.kubernetes.io/name: {{ include "braze-datadog.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "braze-datadog.labels" -}}
{{ include "braze-datadog.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "braze-datadog.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- define "braze-datadog.graceSeconds" -}}
{{- $least := add .Values.shutdownTimeoutSeconds .Values.preStopSleepSeconds -}}
{{ .Values.terminationGracePeriodSeconds | default (add $least 25) | int64 }}
{{- end }}

{{- /* The Secret with the tokens: the one that is there, or the chart's. */}}
{{- define "braze-datadog.tokensSecret" -}}
{{ .Values.push.tokens.existingSecret | default (printf "%s-tokens" (include "braze-datadog.fullname" .)) }}
{{- end }}

{{- define "braze-datadog.kafkaSecret" -}}
{{- if .Values.kafka.secret.existingSecret -}}
{{ .Values.kafka.secret.existingSecret }}
{{- else if .Values.kafka.secret.create -}}
{{ include "braze-datadog.fullname" . }}-kafka
{{- end }}
{{- end }}

{{- /* The ports of the brokers, each once. */}}
{{- define "braze-datadog.brokerPorts" -}}
{{- $ports := list -}}
{{- range dig "queue" "kafka" "brokers" list .Values.config -}}
{{- $ports = append $ports (regexFind "[0-9]+$" . | default "9092") -}}
{{- end -}}
{{ $ports | uniq | sortAlpha | join " " }}
{{- end }}

{{- /* Refuses values that would not work, and says what to write. What a schema can say is in values.schema.json. */}}
{{- define "braze-datadog.validate" -}}
{{- $values := .Values -}}
{{- $config := $values.config -}}
{{- if not $values.image.repository }}
  {{- fail "image.repository is not set: say where your image of braze-datadog is, such as registry.example.com/braze-datadog (docker build -t … in the repository makes one)" }}
{{- end }}
{{- range $key, $instead := dict
    "connections" "connections.existingSecrets or connections.create, for API keys never stand in a ConfigMap"
    "connections_directory" "connections.existingSecrets"
    "shutdown_timeout" "shutdownTimeoutSeconds"
    "queue.kind" "queue.kind, outside config"
    "queue.embedded.directory" "nothing: it is on the volume"
    "history.directory" "nothing: it is on the volume"
    "admin.listen" "listenAddress"
    "push.listen" "listenAddress"
    "push.token_file" "push.tokens.existingSecret"
    "push.tls_certificate" "push.tls.existingSecret"
    "push.tls_key" "push.tls.existingSecret" }}
  {{- $at := $config }}
  {{- $is := true }}
  {{- range splitList "." $key }}
    {{- if and $is (kindIs "map" $at) (hasKey $at .) }}{{ $at = get $at . }}{{ else }}{{ $is = false }}{{ end }}
  {{- end }}
  {{- if $is }}{{ fail (printf "config.%s: the chart sets it; use %s" $key $instead) }}{{ end }}
{{- end }}
{{- range $key, $value := dig "queue" "kafka" "options" dict $config }}
  {{- if and (regexMatch "(password|secret|key\\.pem|oauthbearer\\.config|jaas\\.config)$" $key) }}
    {{- fail (printf "config.queue.kafka.options.%s is a secret, and config is a ConfigMap: put it into kafka.secret, and write \"%s.file\": /etc/braze-datadog/kafka/KEY" $key $key) }}
  {{- end }}
{{- end }}
{{- if contains "@" (dig "queue" "kafka" "schema_registry" "" $config) }}
  {{- fail "config.queue.kafka.schema_registry holds a password, and config is a ConfigMap: put USER:PASSWORD into kafka.secret, and write schema_registry_auth_file: /etc/braze-datadog/kafka/KEY" }}
{{- end }}
{{- if and $values.connections.existingSecrets $values.connections.create }}
  {{- fail "connections.existingSecrets and connections.create are both set: a file of the one could hide one of the other; use one of them" }}
{{- end }}
{{- if not (or $values.connections.existingSecrets $values.connections.create) }}
  {{- fail "no connection: name Secrets in connections.existingSecrets (keys acme.toml and acme.key), or write connections.create" }}
{{- end }}
{{- if and $values.kafka.secret.existingSecret $values.kafka.secret.create }}
  {{- fail "kafka.secret.existingSecret and kafka.secret.create are both set: use one of them" }}
{{- end }}
{{- $least := add $values.shutdownTimeoutSeconds $values.preStopSleepSeconds 10 }}
{{- if lt (int64 (include "braze-datadog.graceSeconds" .)) (int64 $least) }}
  {{- fail (printf "terminationGracePeriodSeconds is %v, and has to be %d at least (shutdownTimeoutSeconds + preStopSleepSeconds + 10): a flush that is killed may count twice" $values.terminationGracePeriodSeconds $least) }}
{{- end }}
{{- if eq $values.queue.kind "kafka" }}
  {{- if not (dig "queue" "kafka" "brokers" list $config) }}{{ fail "config.queue.kafka.brokers is not set: [\"broker-1:9092\"]" }}{{ end }}
  {{- if not (dig "queue" "kafka" "topics" list $config) }}{{ fail "config.queue.kafka.topics is not set: [braze.sends]" }}{{ end }}
  {{- if or $values.push.tokens.existingSecret $values.push.tokens.create $values.push.tls.existingSecret $values.ingress.enabled (hasKey $config "push") }}
    {{- fail "push and ingress are for queue.kind = embedded: with kafka nothing is pushed here" }}
  {{- end }}
{{- else }}
  {{- if or $values.kafka.keda.enabled $values.kafka.secret.existingSecret $values.kafka.secret.create }}
    {{- fail "kafka.keda and kafka.secret are for queue.kind = kafka" }}
  {{- end }}
  {{- if and $values.push.tokens.existingSecret $values.push.tokens.create }}
    {{- fail "push.tokens.existingSecret and push.tokens.create are both set: use one of them" }}
  {{- end }}
  {{- if not (or $values.push.tokens.existingSecret $values.push.tokens.create) }}
    {{- fail "no push token: name a Secret in push.tokens.existingSecret (kubectl create secret generic … --from-literal=tokens=$(openssl rand -base64 32)), or write push.tokens.create" }}
  {{- end }}
  {{- $disk := regexFind "^[0-9]+" (regexFind "^[0-9]+Gi$" $values.persistence.size) }}
  {{- $queue := regexFind "^[0-9]+" (regexFind "^[0-9]+ ?GiB$" (dig "queue" "embedded" "max_size" "4GiB" $config | toString)) }}
  {{- if and $disk $queue (le (int64 $disk) (int64 $queue)) }}
    {{- fail (printf "persistence.size is %s, and config.queue.embedded.max_size %sGiB: the volume has to hold the history, too" $values.persistence.size $queue) }}
  {{- end }}
  {{- if and $values.ingress.enabled (not $values.ingress.host) }}{{ fail "ingress.host is not set: the name under which Braze pushes" }}{{ end }}
{{- end }}
{{- if $values.kafka.keda.enabled }}
  {{- if lt (int64 $values.kafka.keda.maxReplicaCount) (int64 $values.kafka.keda.minReplicaCount) }}
    {{- fail "kafka.keda.maxReplicaCount is below minReplicaCount" }}
  {{- end }}
  {{- range dig "queue" "kafka" "topics" list $config }}
    {{- if hasPrefix "^" . }}{{ fail (printf "KEDA knows no regular expressions, and config.queue.kafka.topics has %s: name the topics one by one" .) }}{{ end }}
  {{- end }}
{{- end }}
{{- end }}
