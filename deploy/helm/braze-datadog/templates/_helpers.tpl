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
app.kubernetes.io/name: {{ include "braze-datadog.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "braze-datadog.labels" -}}
{{ include "braze-datadog.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* How many there are at least. */}}
{{- define "braze-datadog.leastReplicas" -}}
{{ ternary .Values.kafka.keda.minReplicaCount .Values.replicas .Values.kafka.keda.enabled | int64 }}
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

{{- define "braze-datadog.storageSecret" -}}
{{- if ((.Values.storage).secret).existingSecret -}}
{{ .Values.storage.secret.existingSecret }}
{{- else if ((.Values.storage).secret).create -}}
{{ include "braze-datadog.fullname" . }}-storage
{{- end }}
{{- end }}

{{- define "braze-datadog.serviceAccount" -}}
{{ .Values.serviceAccountName | default (ternary (include "braze-datadog.fullname" .) "" ((.Values.serviceAccount).create)) }}
{{- end }}

{{- /* TCP ports that have to be reached outside: 443 (Datadog and Braze), the brokers', those of URLs, and what is said. Each once. */}}
{{- define "braze-datadog.egressPorts" -}}
{{- $ports := list 443 -}}
{{- $config := .Values.config -}}
{{- $urls := list (dig "reconcile" "braze_url" "" $config) -}}
{{- range .Values.connections.create -}}
{{- $urls = concat $urls (list (.url | default "") ((.reconcile).braze_url | default "")) -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- $value := .value | default "" | toString -}}
{{- if and (regexMatch "(?i)^(https?|all)_proxy$" .name) $value (not (contains "://" $value)) -}}
{{- $value = printf "http://%s" $value -}}
{{- end -}}
{{- $urls = append $urls $value -}}
{{- end -}}
{{- if eq .Values.queue.kind "kafka" -}}
{{- range dig "queue" "kafka" "brokers" list $config -}}
{{- $ports = append $ports (regexFind ":[0-9]+$" . | trimPrefix ":" | default "9092" | int) -}}
{{- end -}}
{{- $urls = append $urls (dig "queue" "kafka" "schema_registry" "" $config) -}}
{{- range dig "queue" "kafka" "options" dict $config -}}
{{- $urls = append $urls (toString .) -}}
{{- end -}}
{{- else if eq .Values.queue.kind "storage" -}}
{{- $urls = append $urls (dig "queue" "storage" "notifications" "" $config) -}}
{{- range dig "queue" "storage" "options" dict $config -}}
{{- $urls = append $urls (toString .) -}}
{{- end -}}
{{- end -}}
{{- range $urls -}}
{{- $scheme := regexFind "^(https?|socks(4a?|5h?))://" . -}}
{{- if $scheme -}}
{{- $default := ternary "80" (ternary "443" "1080" (eq $scheme "https://")) (eq $scheme "http://") -}}
{{- $host := regexFind "^[^/?#]*" (trimPrefix $scheme .) -}}
{{- $ports = append $ports (regexFind ":[0-9]+$" $host | trimPrefix ":" | default $default | int) -}}
{{- end -}}
{{- end -}}
{{- range .Values.networkPolicy.extraEgressPorts -}}
{{- $ports = append $ports (int .) -}}
{{- end -}}
{{ $ports | uniq | join " " }}
{{- end }}

{{- /* The bytes of a quantity of Kubernetes (3.5Gi) or of a size of the forwarder (4GiB, 500 kb, a number). */}}
{{- define "braze-datadog.bytes" -}}
{{- if kindIs "string" . -}}
{{- $unit := regexFind "[A-Za-z]*$" (trim .) | lower | trimSuffix "b" -}}
{{- $power := dict "" 0 "k" 1 "m" 2 "g" 3 "t" 4 | dig (trimSuffix "i" $unit) 0 | int -}}
{{- $bytes := regexFind "^[0-9.]+" (trim .) | float64 -}}
{{- range until $power }}{{ $bytes = mulf $bytes (ternary 1024 1000 (hasSuffix "i" $unit)) }}{{ end -}}
{{ int64 $bytes }}
{{- else -}}
{{ int64 . }}
{{- end }}
{{- end }}

{{- /* Refuses values that would not work, and says what to write. What a schema can say is in values.schema.json. */}}
{{- define "braze-datadog.validate" -}}
{{- $values := .Values -}}
{{- $config := $values.config -}}
{{- if not $values.image.repository }}
  {{- fail "image.repository is not set: say where your image of braze-datadog is, such as registry.example.com/braze-datadog (docker build -t … in the repository makes one)" }}
{{- end }}
{{- $name := include "braze-datadog.fullname" . }}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) }}
  {{- fail (printf "the objects would be named %s, which Kubernetes refuses for a Service: set fullnameOverride to a name of small letters, digits and -, which begins with a letter" $name) }}
{{- end }}
{{- range $key, $instead := dict
    "connections" "connections.existingSecrets or connections.create, for API keys never stand in a ConfigMap"
    "connections_directory" "connections.existingSecrets"
    "shutdown_timeout" "shutdownTimeoutSeconds"
    "queue.kind" "queue.kind, outside config"
    "queue.embedded.directory" "nothing: it is on the volume"
    "queue.storage.state_directory" "nothing: it is on the volume"
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
{{- /* As src/config/options.rs: these words in any case, or a URL with a user; what ends with file or location is a path, and an
       id is none of a secret. */}}
{{- $words := dict
    "kafka" (list "password" "passphrase" "secret" "key.pem" "oauthbearer.config")
    "storage" (list "secret" "token" "access_key" "account_key" "master_key" "service_account_key" "customer_key" "sas") }}
{{- range $kind, $secrets := $words }}
  {{- range $key, $value := dig "queue" $kind "options" dict $config }}
    {{- $name := lower $key }}
    {{- $is := regexMatch "(?s)://.*@" (toString $value) }}
    {{- range $word := $secrets }}
      {{- if and (contains $word $name) (not (regexMatch "([._](file|location)|_id)$" $name)) }}{{ $is = true }}{{ end }}
    {{- end }}
    {{- if $is }}
      {{- fail (printf "config.queue.%s.options.%s is a secret, and config is a ConfigMap: put it into %s.secret, and write \"%s.file\": /etc/braze-datadog/%s/KEY" $kind $key $kind $key $kind) }}
    {{- end }}
  {{- end }}
{{- end }}
{{- if dig "queue" "kafka" "options" "group.instance.id" "" $config }}
  {{- fail "config.queue.kafka.options.\"group.instance.id\" would be one name for all pods of the Deployment, also for the next one while the last one stops, and members with one name put each other out: leave it out" }}
{{- end }}
{{- if contains "@" (dig "queue" "kafka" "schema_registry" "" $config) }}
  {{- fail "config.queue.kafka.schema_registry holds a password, and config is a ConfigMap: put USER:PASSWORD into kafka.secret, and write schema_registry_auth_file: /etc/braze-datadog/kafka/KEY" }}
{{- end }}
{{- range $kind := list "embedded" "kafka" "storage" }}
  {{- if and (ne $values.queue.kind $kind) (dig "queue" $kind dict $config) }}
    {{- fail (printf "config.queue.%s is for queue.kind = %s, and this is %s: nothing would read it" $kind $kind $values.queue.kind) }}
  {{- end }}
{{- end }}
{{- range $kind := list "kafka" "storage" }}
  {{- $secret := get (get $values $kind) "secret" }}
  {{- if and $secret.existingSecret $secret.create }}
    {{- fail (printf "%s.secret.existingSecret and %s.secret.create are both set: use one of them" $kind $kind) }}
  {{- end }}
  {{- if and (ne $values.queue.kind $kind) (or $secret.existingSecret $secret.create) }}
    {{- fail (printf "%s.secret is for queue.kind = %s" $kind $kind) }}
  {{- end }}
{{- end }}
{{- if and $values.kafka.keda.enabled (ne $values.queue.kind "kafka") }}
  {{- fail "kafka.keda is for queue.kind = kafka" }}
{{- end }}
{{- if and ($values.serviceAccount).annotations (not ($values.serviceAccount).create) }}
  {{- fail "serviceAccount.annotations are of the service account that the chart makes: set serviceAccount.create, or annotate your own" }}
{{- end }}
{{- $reconciles := hasKey $config "reconcile" }}
{{- range $values.connections.create }}
  {{- if hasKey . "reconcile" }}{{ $reconciles = true }}{{ end }}
{{- end }}
{{- if and $reconciles (or (eq $values.queue.kind "kafka") (gt (int64 $values.replicas) 1)) }}
  {{- fail "reconcile compares what one forwarder has counted with all that Braze has: with several replicas, or with kafka, each knows a part. Leave it out, or take one replica" }}
{{- end }}
{{- if and $values.connections.existingSecrets $values.connections.create }}
  {{- fail "connections.existingSecrets and connections.create are both set: a file of the one could hide one of the other; use one of them" }}
{{- end }}
{{- if not (or $values.connections.existingSecrets $values.connections.create) }}
  {{- fail "no connection: name Secrets in connections.existingSecrets (keys acme.toml and acme.key), or write connections.create" }}
{{- end }}
{{- $least := add $values.shutdownTimeoutSeconds $values.preStopSleepSeconds 10 }}
{{- if lt (int64 (include "braze-datadog.graceSeconds" .)) (int64 $least) }}
  {{- fail (printf "terminationGracePeriodSeconds is %v, and has to be %d at least (shutdownTimeoutSeconds + preStopSleepSeconds + 10): a flush that is killed may count twice" $values.terminationGracePeriodSeconds $least) }}
{{- end }}
{{- if ne $values.queue.kind "embedded" }}
  {{- if or $values.push.tokens.existingSecret $values.push.tokens.create $values.push.tls.existingSecret $values.ingress.enabled (hasKey $config "push") }}
    {{- fail (printf "push and ingress are for queue.kind = embedded: with %s nothing is pushed here" $values.queue.kind) }}
  {{- end }}
{{- end }}
{{- $volume := ternary "emptyDirSizeLimit" "size" (eq $values.queue.kind "kafka") }}
{{- $size := get $values.persistence $volume }}
{{- $kept := "config.history.max_size" }}
{{- $needed := dig "history" "max_size" "256MiB" $config | include "braze-datadog.bytes" | int64 }}
{{- if eq $values.queue.kind "embedded" }}
  {{- $kept = printf "%s and config.queue.embedded.max_size" $kept }}
  {{- $needed = dig "queue" "embedded" "max_size" "4GiB" $config | include "braze-datadog.bytes" | int64 | add $needed }}
{{- end }}
{{- $bytes := include "braze-datadog.bytes" $size | int64 }}
{{- if and $size (le $bytes $needed) }}
  {{- fail (printf "persistence.%s is %s (%d bytes), and what it has to hold may take %d (%s): give it more than that" $volume $size $bytes $needed $kept) }}
{{- end }}
{{- if eq $values.queue.kind "kafka" }}
  {{- if not (dig "queue" "kafka" "brokers" list $config) }}{{ fail "config.queue.kafka.brokers is not set: [\"broker-1:9092\"]" }}{{ end }}
  {{- if not (dig "queue" "kafka" "topics" list $config) }}{{ fail "config.queue.kafka.topics is not set: [braze.sends]" }}{{ end }}
{{- else if eq $values.queue.kind "storage" }}
  {{- if not (or (dig "queue" "storage" "url" "" $config) (dig "queue" "storage" "sources" dict $config)) }}
    {{- fail "config.queue.storage.url is not set (nor .sources): s3://BUCKET/PREFIX/, gs://… or az://CONTAINER/…" }}
  {{- end }}
  {{- if gt (int64 $values.replicas) 1 }}
    {{- fail "replicas is more than 1: two forwarders on one prefix of a bucket would both count everything. Make a release for each prefix" }}
  {{- end }}
{{- else }}
  {{- if and $values.push.tokens.existingSecret $values.push.tokens.create }}
    {{- fail "push.tokens.existingSecret and push.tokens.create are both set: use one of them" }}
  {{- end }}
  {{- if not (or $values.push.tokens.existingSecret $values.push.tokens.create) }}
    {{- fail "no push token: name a Secret in push.tokens.existingSecret (kubectl create secret generic … --from-literal=tokens=$(openssl rand -base64 32)), or write push.tokens.create" }}
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
