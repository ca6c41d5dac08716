{{- define "sessiond.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The name of all objects, or its beginning. 40 characters leave room for suffixes such as "-signing-keys". */}}
{{- define "sessiond.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "sessiond.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "sessiond.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "sessiond.selectorLabels" -}}
app.kubernetes.io/name: {{ include "sessiond.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "sessiond.labels" -}}
{{ include "sessiond.commonLabels" . }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "sessiond.commonLabels" -}}
{{ include "sessiond.selectorLabels" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | quote }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels of a pod: include "sessiond.podLabels" (list $ "serve"). The second element says what the pod
does. The version of the chart is not among them, otherwise it alone would replace all replicas. */}}
{{- define "sessiond.podLabels" -}}
{{ include "sessiond.commonLabels" (index . 0) }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "sessiond.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- define "sessiond.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "sessiond.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{- define "sessiond.signingKeysSecret" -}}
{{- if and .Values.signingKeys.rotation.enabled (or (not .Values.signingKeys.existingSecret) (eq .Values.signingKeys.existingSecret .Values.existingSecret)) }}
{{- fail "signingKeys.rotation needs a Secret of its own in signingKeys.existingSecret, because its account may write that Secret" }}
{{- end }}
{{- .Values.signingKeys.existingSecret | default .Values.existingSecret }}
{{- end }}

{{/* What all pods have in common. Service links are off, because they would set variables such as
SESSIOND_PORT for a Service with the name sessiond. */}}
{{- define "sessiond.pod" -}}
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "sessiond.container" -}}
image: {{ include "sessiond.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- toYaml .Values.containerSecurityContext | nindent 2 }}
{{- end }}

{{/* The value of a setting as a string. Helm reads numbers as floating-point ones, and would print
1000000 as 1e+06. */}}
{{- define "sessiond.value" -}}
{{- if kindIs "float64" . }}{{ int64 . | toString | quote }}{{ else }}{{ toString . | quote }}{{ end }}
{{- end }}

{{/* Environment of "sessiond serve", which "sessiond doctor" checks, too. */}}
{{- define "sessiond.env" -}}
{{- if and .Values.secretKeys.smtpUrl (not .Values.settings.MAIL_FROM) }}
{{- fail "settings.MAIL_FROM is required with secretKeys.smtpUrl" }}
{{- end -}}
- name: SESSIOND_DATABASE_URL_FILE
  value: /etc/sessiond/secrets/{{ .Values.secretKeys.databaseUrl }}
- name: SESSIOND_REDIS_URL_FILE
  value: /etc/sessiond/secrets/{{ .Values.secretKeys.redisUrl }}
- name: SESSIOND_SIGNING_KEYS_FILE
  value: /etc/sessiond/signing-keys/{{ .Values.signingKeys.key }}
{{- with .Values.secretKeys.smtpUrl }}
- name: SESSIOND_SMTP_URL_FILE
  value: /etc/sessiond/secrets/{{ . }}
{{- end }}
{{- with .Values.secretKeys.passwordPeppers }}
- name: SESSIOND_PASSWORD_PEPPER_FILE
  value: /etc/sessiond/secrets/{{ . }}
{{- end }}
- name: SESSIOND_ADDR
  value: ":8080"
{{- if .Values.check.enabled }}
- name: SESSIOND_CHECK_ADDR
  value: ":8081"
{{- end }}
{{- if .Values.extAuthz.enabled }}
- name: SESSIOND_EXT_AUTHZ_ADDR
  value: ":8082"
{{- end }}
{{- if .Values.admin.enabled }}
- name: SESSIOND_ADMIN_ADDR
  value: ":8083"
{{- end }}
- name: SESSIOND_METRICS_ADDR
  value: {{ ternary ":9090" "" .Values.metrics.enabled | quote }}
- name: SESSIOND_SHUTDOWN_DELAY
  value: {{ .Values.shutdownDelaySeconds }}s
{{- if not (hasKey .Values.settings "ISSUER") }}
- name: SESSIOND_ISSUER
  value: {{ .Values.settings.PUBLIC_URL | quote }}
{{- end }}
{{- range $name, $value := .Values.settings }}
- name: SESSIOND_{{ $name }}
  value: {{ include "sessiond.value" $value }}
{{- end }}
{{- include "sessiond.extraEnv" . }}
{{- end }}

{{- define "sessiond.extraEnv" -}}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "sessiond.envFrom" -}}
{{- with .Values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The files of "sessiond serve". They are not mounted with subPath, because such files never change:
a replica reads new signing keys within a second after they arrive. */}}
{{- define "sessiond.volumes" -}}
- name: secrets
  secret:
    secretName: {{ required "existingSecret is required" .Values.existingSecret }}
    defaultMode: 0440
    items:
      {{- range list .Values.secretKeys.databaseUrl .Values.secretKeys.redisUrl .Values.secretKeys.smtpUrl .Values.secretKeys.passwordPeppers | compact }}
      - key: {{ . }}
        path: {{ . }}
      {{- end }}
- name: signing-keys
  secret:
    secretName: {{ include "sessiond.signingKeysSecret" . }}
    defaultMode: 0440
    items:
      - key: {{ .Values.signingKeys.key }}
        path: {{ .Values.signingKeys.key }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "sessiond.volumeMounts" -}}
- name: secrets
  mountPath: /etc/sessiond/secrets
  readOnly: true
- name: signing-keys
  mountPath: /etc/sessiond/signing-keys
  readOnly: true
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}
