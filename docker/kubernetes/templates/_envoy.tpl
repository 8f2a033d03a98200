{{- /* Envoy's own configuration: https://www.envoyproxy.io/docs/envoy/latest/api-v3/api */ -}}
{{- define "tuwen.envoyConfig" -}}
{{- $tls := .Values.tls -}}
admin:
  address: {socket_address: {address: 127.0.0.1, port_value: 9901}}
static_resources:
  listeners:
    - name: grpc
      address: {socket_address: {address: 0.0.0.0, port_value: 8001}}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: grpc
                codec_type: HTTP2
                stream_idle_timeout: 0s  # a request that waits for the encoder is silent; its deadline ends it
                {{- with .Values.server.maxConnectionAgeSeconds }}
                common_http_protocol_options: {max_connection_duration: {{ . }}s}
                {{- end }}
                route_config:
                  virtual_hosts:
                    - name: server
                      domains: ["*"]
                      routes:
                        - match: {prefix: /}
                          route:
                            cluster: server
                            timeout: 0s
                            max_stream_duration: {grpc_timeout_header_max: 0s}  # the caller's own deadline holds
                            # Only what no server has begun: to ask a full one again would keep it full.
                            retry_policy:
                              retry_on: connect-failure,refused-stream,reset-before-request
                              num_retries: 2
                              retry_host_predicate:
                                - name: envoy.retry_host_predicates.previous_hosts
                                  typed_config:
                                    "@type": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate
                              host_selection_retry_max_attempts: 5
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
          {{- if $tls.secret }}
          transport_socket:
            name: envoy.transport_sockets.tls
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
              {{- if $tls.mutual }}
              require_client_certificate: true
              {{- end }}
              common_tls_context: {{- include "tuwen.envoyTls" (dict "own" true "checks" $tls.mutual) | nindent 16 }}
          {{- end }}
    - name: metrics
      address: {socket_address: {address: 0.0.0.0, port_value: 9902}}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: metrics
                route_config:
                  virtual_hosts:
                    - name: admin
                      domains: ["*"]
                      routes:
                        - {match: {path: /ready}, route: {cluster: admin}}
                        - {match: {path: /stats/prometheus}, route: {cluster: admin}}
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
    - name: server
      type: STRICT_DNS
      dns_refresh_rate: 5s
      respect_dns_ttl: true
      connect_timeout: 2s
      lb_policy: LEAST_REQUEST
      load_assignment:
        cluster_name: server
        endpoints:
          - lb_endpoints:
              - endpoint: {address: {socket_address: {address: {{ include "tuwen.name" . }}-headless.{{ .Release.Namespace }}.svc, port_value: 8001}}}
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config: {http2_protocol_options: {}}
      circuit_breakers:  # the servers shed load themselves
        thresholds: [{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000}]
      health_checks:
        - {interval: 5s, timeout: 5s, unhealthy_threshold: 2, healthy_threshold: 1, grpc_health_check: {}}
      # By connections that fail, not by answers: a full server's refusals must not send its load to the others.
      outlier_detection:
        split_external_local_origin_errors: true
        consecutive_local_origin_failure: 2
        enforcing_consecutive_local_origin_failure: 100
        enforcing_consecutive_5xx: 0
        enforcing_consecutive_gateway_failure: 0
        enforcing_success_rate: 0
        enforcing_local_origin_success_rate: 0
        interval: 2s
        base_ejection_time: 10s
        max_ejection_percent: 50
      {{- if $tls.secret }}
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
          common_tls_context: {{- include "tuwen.envoyTls" (dict "own" $tls.mutual "checks" true) | nindent 12 }}
      {{- end }}
    - name: admin
      type: STATIC
      connect_timeout: 1s
      load_assignment:
        cluster_name: admin
        endpoints:
          - lb_endpoints:
              - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 9901}}}
{{- end }}

{{- define "tuwen.envoyTls" -}}
alpn_protocols: [h2]
{{- if .own }}
tls_certificates:
  - {certificate_chain: {filename: /tls/tls.crt}, private_key: {filename: /tls/tls.key}}
{{- end }}
{{- if .checks }}
validation_context: {trusted_ca: {filename: /tls/ca.crt}}
{{- end }}
{{- end }}
