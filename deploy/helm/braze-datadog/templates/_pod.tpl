{{- /* The pod of every kind. */}}
{{- define "braze-datadog.pod" -}}
{{- $isEmbedded := eq .Values.queue.kind "embedded" -}}
metadata:
  labels:
    {{- include "braze-datadog.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  annotations:
    # The forwarder reads its main file at the start and at SIGHUP only. Secrets with connections, keys, tokens and
    # certificates are watched, so they are not summed up here.
    checksum/config: {{ include "braze-datadog.config" . | sha256sum }}
    {{- with .Values.kafka.secret.create }}
    checksum/kafka: {{ toJson . | sha256sum }}
    {{- end }}
    {{- with ((.Values.storage).secret).create }}
    checksum/storage: {{ toJson . | sha256sum }}
    {{- end }}
    {{- with .Values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with include "braze-datadog.serviceAccount" . }}
  serviceAccountName: {{ . | quote }}
  {{- end }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  terminationGracePeriodSeconds: {{ include "braze-datadog.graceSeconds" . }}
  securityContext: {{- toYaml .Values.podSecurityContext | nindent 4 }}
  containers:
    - name: braze-datadog
      image: {{ include "braze-datadog.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [run]
      env:
        # So that `check`, `health` and `connections` find it by kubectl exec, too.
        - name: BRAZE_DATADOG_CONFIG
          value: /etc/braze-datadog/config/braze-datadog.toml
        # The image sets it, too, and the environment wins over the file.
        - name: BRAZE_DATADOG__ADMIN__LISTEN
          value: {{ printf "%s:8081" .Values.listenAddress | quote }}
        {{- with .Values.extraEnv }}{{ toYaml . | nindent 8 }}{{ end }}
      ports:
        {{- if $isEmbedded }}
        - name: push
          containerPort: 8080
        {{- end }}
        - name: admin
          containerPort: 8081
      # Five minutes, for a disk that is slow to come up.
      startupProbe:
        httpGet: { path: /livez, port: admin }
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 60
      livenessProbe:
        httpGet: { path: /livez, port: admin }
        periodSeconds: 15
        timeoutSeconds: 5
        failureThreshold: 4
      readinessProbe:
        httpGet: { path: /readyz, port: admin }
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 2
      {{- if .Values.preStopSleepSeconds }}
      lifecycle:
        preStop:
          sleep: { seconds: {{ .Values.preStopSleepSeconds }} }
      {{- end }}
      resources: {{- toYaml .Values.resources | nindent 8 }}
      securityContext: {{- toYaml .Values.securityContext | nindent 8 }}
      volumeMounts:
        - name: state
          mountPath: /var/lib/braze-datadog
        - name: config
          mountPath: /etc/braze-datadog/config
          readOnly: true
        - name: connections
          mountPath: /etc/braze-datadog/connections
          readOnly: true
        {{- if $isEmbedded }}
        - name: push-tokens
          mountPath: /etc/braze-datadog/push
          readOnly: true
        {{- if .Values.push.tls.existingSecret }}
        - name: push-tls
          mountPath: /etc/braze-datadog/push-tls
          readOnly: true
        {{- end }}
        {{- end }}
        {{- if include "braze-datadog.kafkaSecret" . }}
        - name: kafka
          mountPath: /etc/braze-datadog/kafka
          readOnly: true
        {{- end }}
        {{- if include "braze-datadog.storageSecret" . }}
        - name: storage
          mountPath: /etc/braze-datadog/storage
          readOnly: true
        {{- end }}
        {{- with .Values.extraVolumeMounts }}{{ toYaml . | nindent 8 }}{{ end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "braze-datadog.fullname" . | quote }}
    # One folder of all Secrets, without subPath: that would keep changes away.
    - name: connections
      projected:
        defaultMode: 0440
        sources:
          {{- range .Values.connections.existingSecrets }}
          - secret:
              name: {{ . | quote }}
              optional: {{ $.Values.connections.optional }}
          {{- else }}
          - secret:
              name: {{ include "braze-datadog.fullname" . }}-connections
          {{- end }}
    {{- if $isEmbedded }}
    - name: push-tokens
      secret:
        secretName: {{ include "braze-datadog.tokensSecret" . | quote }}
        defaultMode: 0440
        items:
          - key: {{ .Values.push.tokens.key | quote }}
            path: tokens
    {{- with .Values.push.tls.existingSecret }}
    - name: push-tls
      secret:
        secretName: {{ . | quote }}
        defaultMode: 0440
    {{- end }}
    {{- end }}
    {{- if eq .Values.queue.kind "kafka" }}
    - name: state
      emptyDir:
        sizeLimit: {{ .Values.persistence.emptyDirSizeLimit }}
    {{- end }}
    {{- with include "braze-datadog.kafkaSecret" . }}
    - name: kafka
      secret:
        secretName: {{ . | quote }}
        defaultMode: 0440
    {{- end }}
    {{- with include "braze-datadog.storageSecret" . }}
    - name: storage
      secret:
        secretName: {{ . | quote }}
        defaultMode: 0440
    {{- end }}
    {{- with .Values.extraVolumes }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    {{- with .Values.topologySpreadConstraints }}
    {{- toYaml . | nindent 4 }}
    {{- else }}
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "braze-datadog.selector" . | nindent 10 }}
    {{- end }}
{{- end }}
