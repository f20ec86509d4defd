/**
 * The one declaration of every configuration option. Types, defaults, the JSON Schema in config/, the reference page in docs/ and
 * the names of the environment variables are made from it (`npm run generate`).
 *
 * The top-level fields up to `routers` are the seed system's `config.json`; a file that has only those loads unchanged.
 */
import Type from 'typebox';

const closed = { additionalProperties: false } as const;

function text(description: string, options: { default?: string; minLength?: number; pattern?: string } = {}) {
  return Type.String({ description, ...options });
}
function whole(description: string, minimum: number, options: { default?: number; maximum?: number } = {}) {
  return Type.Integer({ description, minimum, ...options });
}
function flag(description: string, fallback: boolean) {
  return Type.Boolean({ description, default: fallback });
}
function names(description: string, fallback?: string[]) {
  return Type.Array(Type.String({ minLength: 1 }), { description, ...(fallback === undefined ? {} : { default: fallback }) });
}
function oneOf<const T extends string[]>(values: [...T], description: string, fallback?: T[number]) {
  return Type.Enum(values, { description, ...(fallback === undefined ? {} : { default: fallback }) });
}

const Tls = Type.Object(
  {
    ca_file: Type.Optional(text('PEM file of the certificate authorities to trust; the system’s own when missing')),
    cert_file: Type.Optional(text('PEM file of our certificate')),
    key_file: Type.Optional(text('PEM file of our private key')),
    server_name: Type.Optional(text('Name expected in the other side’s certificate, where it is not the host in the address')),
  },
  { ...closed, description: 'TLS. Present: the connection is encrypted and the other side’s certificate is checked' },
);

const Http = (port: number, what: string) =>
  Type.Object(
    {
      host: text('Address to listen on. Beyond loopback a token is required', { default: '127.0.0.1' }),
      port: whole(`Port of ${what}; 0 takes a free one`, 0, { default: port, maximum: 65535 }),
      token: Type.Optional(text('Bearer token that every request must carry', { minLength: 8 })),
      token_file: Type.Optional(text('File that holds the token')),
      insecure: flag('Listen beyond loopback without a token', false),
    },
    { ...closed, default: {}, description: `HTTP listener of ${what}` },
  );

export const RouterSchema = Type.Object(
  {
    collector_url: Type.Optional(
      text('Address of a collector that answers with the exposition as JSON (`…/metrics/{host}_{port}.json`)', { pattern: '^https?://' }),
    ),
    topic: Type.Optional(text('Topic of the router’s raw records; `topics.raw` when missing', { minLength: 1 })),
    interfaces: Type.Optional(
      names('Monitored interfaces: names, or patterns with `*`. A pattern never takes an interface of `exclude_interfaces`; a name does', [
        '*',
      ]),
    ),
    test_metrics: Type.Optional(flag('Feed the router from `test_metrics_{router}.json` beside the configuration file', false)),
    router_type: Type.Optional(text('Power model of the router, a name in the models file', { minLength: 1 })),
    source: Type.Optional(
      oneOf(
        ['collector', 'node-exporter', 'procfs', 'test-metrics'],
        'Where the counters come from; worked out from the other fields when missing',
      ),
    ),
    url: Type.Optional(text('Address of the router’s node exporter (`http://r1:9100/metrics`)', { pattern: '^https?://' })),
    procfs_root: Type.Optional(
      text('Root of the proc file system to read; `/host/proc/1` in a container that watches its host', { default: '/proc' }),
    ),
    node_exporter: Type.Optional(
      text('`host:port` written into the records; the router’s name and port 9100 when missing', { pattern: '^[^:\\s]+:[0-9]{1,5}$' }),
    ),
    max_throughput_mbps: Type.Optional(whole('Capacity of this router’s links [Mbit/s], instead of the general one', 1)),
    multiplier: Type.Optional(whole('Multiplier of packet rates for this router, instead of the general one', 1, { maximum: 2000 })),
    polling_interval: Type.Optional(
      Type.Number({ description: 'Seconds between two polls of this router', minimum: 0.001, maximum: 86400 }),
    ),
  },
  closed,
);

export const ConfigSchema = Type.Object(
  {
    $schema: Type.Optional(text('Where an editor finds the JSON Schema of this file')),
    experiment_id: text('Name of the experiment, written into every record', { default: '1' }),
    flag_original_metrics: flag('Keep the counters themselves in processed and inferred records', true),
    flag_debug_params: flag('Write `debug_params` (settings and stage times) into the records', true),
    max_throughput_mbps: Type.Optional(
      whole(
        'Capacity of a router’s links [Mbit/s]: 100 % occupation. When missing: of a router that the agent reads from `/proc`, the speed of its fastest monitored interface, where the kernel tells it; 1000 otherwise',
        1,
      ),
    ),
    polling_interval: Type.Number({
      description: 'Seconds between two polls of a router',
      minimum: 0.001,
      maximum: 86400,
      default: 5,
    }),
    multiplier: whole('Multiplier of packet rates, 1 to 2000', 1, { default: 1, maximum: 2000 }),
    routers: Type.Array(Type.Record(Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._-]*$' }), RouterSchema), {
      description: 'The routers: a list of objects, each from a router’s name to its settings',
      default: [],
    }),

    data_dir: text('Folder of everything that is kept (relative to the configuration file)', { default: 'data' }),
    bus: oneOf(
      ['embedded', 'kafka'],
      'What carries the records between the stages: the aggregator’s own log, or Apache Kafka (section `kafka`)',
      'embedded',
    ),
    exclude_interfaces: names('Interfaces that no pattern in `interfaces` takes', [
      'lo',
      'veth*',
      'docker*',
      'br-*',
      'cali*',
      'cni*',
      'flannel*',
      'virbr*',
    ]),
    families: names('Metric families read and kept in the records', [
      'node_network_receive_bytes_total',
      'node_network_receive_packets_total',
    ]),

    topics: Type.Object(
      {
        raw: text('Topic of raw records, per router where it has `{router}`', { default: 'TD_{router}', minLength: 1 }),
        processed: text('Topic of processed records', { default: 'TP_{router}', minLength: 1 }),
        inferred: text('Topic of inferred records', { default: 'ML_{router}', minLength: 1 }),
        notices: text('Topic of agents’ notices: ledgers and gaps', { default: 'ndt.notices', minLength: 1 }),
        inventory: text('Topic of inventories: what a router is made of', { default: 'ndt.inventory', minLength: 1 }),
        dead_letters: text('Topic of records that could not be used, the reason in a header', {
          default: 'ndt.dead-letters',
          minLength: 1,
        }),
      },
      { ...closed, default: {}, description: 'Names of the topics on the bus' },
    ),

    log: Type.Object(
      {
        level: oneOf(['trace', 'debug', 'info', 'warn', 'error', 'fatal'], 'Least level that is logged', 'info'),
        format: oneOf(['auto', 'json', 'pretty'], '`auto` is pretty on a terminal and JSON lines elsewhere', 'auto'),
      },
      { ...closed, default: {}, description: 'The log, on standard error' },
    ),

    agent: Type.Object(
      {
        id: Type.Optional(text('The agent’s identity for ever; the host’s name when missing', { pattern: '^[A-Za-z0-9][A-Za-z0-9._-]*$' })),
        ship: oneOf(
          ['processed', 'raw'],
          'Ship processed records (rates worked out here) or raw ones (worked out by the aggregator)',
          'processed',
        ),
        uplink: oneOf(
          ['mqtt', 'kafka'],
          'How records are shipped: over MQTT (section `mqtt`), or straight to Apache Kafka (section `kafka`)',
          'mqtt',
        ),
        timeout: Type.Number({ description: 'Seconds after which a poll is given up', exclusiveMinimum: 0, maximum: 3600, default: 5 }),
        max_response_bytes: whole('Largest answer taken from an exporter or collector [bytes]', 1024, { default: 16777216 }),
        http: Http(9470, 'the agent (collector, metrics, health)'),
        buffer: Type.Object(
          {
            max_bytes: whole(
              'Most that the buffer may take on disk, its log included [bytes]; `policy` says what is dropped beyond it',
              1048576,
              {
                default: 1073741824,
              },
            ),
            max_age: whole(
              'Seconds a record may wait before it is dropped and counted; only time that the machine is on counts; 0 is for ever',
              0,
              { default: 604800 },
            ),
            policy: oneOf(
              ['drop-oldest', 'drop-newest', 'thin-out'],
              'What is dropped when the buffer is full. `thin-out` keeps every second record of each router in the older half, and halves it again when that is not enough',
              'drop-oldest',
            ),
            durability: oneOf(
              ['full', 'normal', 'on-outage'],
              '`full`: every record is on disk before it is sent. `normal`: a power cut may take the last ones. `on-outage`: records are kept in memory and written only when they have waited `memory_seconds`, or at the end',
              'full',
            ),
            memory_seconds: Type.Number({
              description: 'With `on-outage`: seconds that a record waits in memory before it is written to disk',
              minimum: 0.1,
              maximum: 3600,
              default: 10,
            }),
            memory_bytes: whole('Most that is kept in memory while the disk is full, read-only, failing or slow [bytes]', 65536, {
              default: 2097152,
              maximum: 1073741824,
            }),
            replay: Type.Object(
              {
                order: oneOf(
                  ['fresh-first', 'fifo'],
                  '`fresh-first`: after an outage new records go out at once and the backlog beside them. `fifo`: strictly in order',
                  'fresh-first',
                ),
                rate: Type.Number({
                  description: 'Records of the backlog sent a second, with a jitter; 0 is without a bound',
                  minimum: 0,
                  default: 1000,
                }),
              },
              { ...closed, default: {}, description: 'How records that waited out an outage or a restart are sent' },
            ),
          },
          { ...closed, default: {}, description: 'The outbox: records that the receiving side has not confirmed yet' },
        ),
      },
      { ...closed, default: {}, description: 'The agent' },
    ),

    inventory: Type.Object(
      {
        interval: whole('Seconds between two inventories; one is made soon after the start as well. 0: none at all', 0, {
          default: 86400,
          maximum: 2000000,
        }),
      },
      {
        ...closed,
        default: {},
        description: 'What a router is made of (model, CPU, memory, system, interfaces), of routers that the agent reads from `/proc`',
      },
    ),

    mqtt: Type.Object(
      {
        url: text('The aggregator’s embedded broker, or another MQTT 3.1.1 broker', {
          default: 'mqtt://127.0.0.1:1883',
          pattern: '^mqtts?://',
        }),
        username: Type.Optional(text('User name; the agent’s id when missing')),
        password: Type.Optional(text('Password')),
        password_file: Type.Optional(text('File that holds the password')),
        tls: Type.Optional(Tls),
        format: oneOf(
          ['batch', 'plain'],
          '`batch`: compressed batches with headers. `plain`: bare records on `ndt/{router}/processed` (inventories on `ndt/{router}/inventory`) for other subscribers, without deduplication',
          'batch',
        ),
        compression: oneOf(['gzip', 'zstd', 'none'], 'Compression of batches', 'gzip'),
        batch_records: whole('Most records in a batch', 1, { default: 500, maximum: 10000 }),
        timeout: Type.Number({
          description: 'Seconds to wait for a connection or an acknowledgement',
          exclusiveMinimum: 0,
          maximum: 3600,
          default: 10,
        }),
      },
      { ...closed, default: {}, description: 'How the agent reaches the aggregator over MQTT' },
    ),

    kafka: Type.Object(
      {
        brokers: Type.Array(Type.String({ pattern: '^(\\[[0-9A-Fa-f:]+\\]|[^:\\s]+):[0-9]{1,5}$' }), {
          description: 'Where to begin: `host:port` of one broker or several',
          minItems: 1,
          default: ['127.0.0.1:9092'],
        }),
        client_id: Type.Optional(
          text('Name in the brokers’ logs and quotas; `ndt-agent-{id}`, `ndt-aggregator` and `ndt-ml` when missing', { minLength: 1 }),
        ),
        tls: Type.Optional(Tls),
        sasl: Type.Optional(
          Type.Object(
            {
              mechanism: oneOf(['plain', 'scram-sha-256', 'scram-sha-512'], 'How the password is proven', 'scram-sha-512'),
              username: text('User name', { minLength: 1 }),
              password: Type.Optional(text('Password')),
              password_file: Type.Optional(text('File that holds the password; read again at each connection')),
            },
            { ...closed, description: 'Sign in with a user name and a password' },
          ),
        ),
        topics: Type.Object(
          {
            create: flag('Make topics that are missing', true),
            partitions: whole('Partitions of a topic that ndt makes; -1 leaves it to the broker', -1, { default: 1 }),
            replication: whole('Copies of each partition of a topic that ndt makes; -1 leaves it to the broker', -1, {
              default: -1,
              maximum: 100,
            }),
            retention_ms: whole('Milliseconds that a topic made by ndt keeps its records; -1 is for ever, 0 leaves it to the broker', -1, {
              default: 0,
            }),
          },
          { ...closed, default: {}, description: 'How ndt makes topics' },
        ),
        compression: oneOf(['gzip', 'zstd', 'none'], 'Compression of what is written', 'zstd'),
        linger_ms: Type.Number({ description: 'Milliseconds to wait for company before a write', minimum: 0, maximum: 1000, default: 0 }),
        batch_bytes: whole(
          'Most bytes, before compression, written to a partition at once; brokers take 1 MiB unless told otherwise',
          1024,
          {
            default: 900000,
            maximum: 67108864,
          },
        ),
        timeout: Type.Number({
          description: 'Seconds to wait for a connection or an answer',
          exclusiveMinimum: 0,
          maximum: 300,
          default: 10,
        }),
        transaction_timeout: Type.Number({
          description: 'Seconds after which a broker gives up the transaction of a process that is gone; until then readers wait for it',
          minimum: 1,
          maximum: 900,
          default: 15,
        }),
        session_timeout: Type.Number({
          description: 'Seconds without a sign of life after which the others of a group take over the share of a process',
          minimum: 1,
          maximum: 300,
          default: 10,
        }),
      },
      { ...closed, default: {}, description: 'Apache Kafka, where `bus` or `agent.uplink` is `kafka`' },
    ),

    aggregator: Type.Object(
      {
        roles: Type.Array(Type.Enum(['ingress', 'rates', 'ml', 'store', 'api', 'netflow', 'pods']), {
          description:
            'What this process does: take agents’ batches in over MQTT, work out rates, infer, keep history, serve it; normalise NetFlow, publish pods’ metrics. Several processes on Kafka can share the work',
          default: ['ingress', 'rates', 'ml', 'store', 'api'],
        }),
        http: Http(9480, 'the aggregator (page, API, metrics, health)'),
        mqtt: Type.Object(
          {
            enabled: flag('Run the embedded broker', true),
            host: text('Address to listen on. Beyond loopback `users` or `tls` with `require_client_certificate` is required', {
              default: '127.0.0.1',
            }),
            port: whole('Port of the embedded broker; 0 takes a free one', 0, { default: 1883, maximum: 65535 }),
            users: Type.Optional(
              Type.Record(
                Type.String(),
                Type.Object(
                  { password: Type.Optional(text('Password')), password_file: Type.Optional(text('File that holds the password')) },
                  closed,
                ),
                { description: 'Agents that may connect: the agent’s id to its password' },
              ),
            ),
            tls: Type.Optional(
              Type.Object(
                {
                  cert_file: text('PEM file of the broker’s certificate'),
                  key_file: text('PEM file of its private key'),
                  ca_file: Type.Optional(text('PEM file of the authority that signs the agents’ certificates')),
                  require_client_certificate: flag('An agent proves itself by a certificate whose common name is its id', false),
                },
                { ...closed, description: 'TLS of the embedded broker' },
              ),
            ),
            insecure: flag('Listen beyond loopback without authentication', false),
            max_packet_bytes: whole('Largest packet taken [bytes]', 1024, { default: 8388608 }),
            subscribe: Type.Optional(
              Type.Object(
                {
                  url: text('A broker to subscribe to', { pattern: '^mqtts?://' }),
                  client_id: text('Client id of the persistent session', { default: 'ndt-aggregator' }),
                  username: Type.Optional(text('User name')),
                  password: Type.Optional(text('Password')),
                  password_file: Type.Optional(text('File that holds the password')),
                  tls: Type.Optional(Tls),
                },
                { ...closed, description: 'Read agents’ batches from another broker (Mosquitto, say)' },
              ),
            ),
          },
          { ...closed, default: {}, description: 'Where agents’ batches come in' },
        ),
        bus: Type.Object(
          {
            max_bytes: whole('Most that a topic keeps [bytes]', 1048576, { default: 1073741824 }),
            max_age: whole('Seconds a message is kept; 0 is for ever', 0, { default: 259200 }),
          },
          { ...closed, default: {}, description: 'Retention of the embedded bus' },
        ),
        store: Type.Object(
          { max_age: whole('Seconds of history kept, by event time; 0 is for ever', 0, { default: 2592000 }) },
          { ...closed, default: {}, description: 'History behind the API' },
        ),
      },
      { ...closed, default: {}, description: 'The aggregator' },
    ),

    netflow: Type.Object(
      {
        input: text('Topic of GoFlow2’s flows', { default: 'flows', minLength: 1 }),
        output: text('Topic of normalised flows', { default: 'netflow-output', minLength: 1 }),
        errors: text('Topic of flows that could not be read, the reason in a header', { default: 'netflow-errors', minLength: 1 }),
        rfc7951: flag('64-bit integers as strings, as RFC 7951 has them; numbers otherwise', false),
        switched_unit: oneOf(['input', 's', 'ms'], 'Unit of first-switched and last-switched; `input` leaves them as they are', 'input'),
        aggregate: Type.Number({
          description: 'One record per flow and window of this many seconds; 0 is one record per export',
          minimum: 0,
          maximum: 86400,
          default: 0,
        }),
        lateness: Type.Number({ description: 'Seconds that a flow may come late for its window', minimum: 0, maximum: 86400, default: 30 }),
        bidirectional: flag('Both directions of a conversation in one record', false),
        pair_timeout: Type.Number({
          description: 'Seconds that a flow waits for its other direction',
          exclusiveMinimum: 0,
          maximum: 86400,
          default: 30,
        }),
      },
      { ...closed, default: {}, description: 'The NetFlow normaliser, role `netflow` of the aggregator' },
    ),

    pods: Type.Object(
      {
        prometheus: Type.Object(
          {
            url: text('Address of the Prometheus API, with the path before `/api/v1` where there is one', {
              default: 'http://127.0.0.1:9090',
              pattern: '^https?://',
            }),
            username: Type.Optional(text('User name, for a login with a password', { minLength: 1 })),
            password: Type.Optional(text('Password')),
            password_file: Type.Optional(text('File that holds the password; read again for each request')),
            token_file: Type.Optional(text('File that holds a bearer token; read again for each request')),
            tls: Type.Optional(Tls),
            timeout: Type.Number({
              description: 'Seconds after which a query is given up',
              exclusiveMinimum: 0,
              maximum: 600,
              default: 10,
            }),
            max_response_bytes: whole('Largest answer taken, unpacked [bytes]', 1024, { default: 16777216 }),
          },
          { ...closed, default: {}, description: 'Where the metrics are asked for' },
        ),
        topic: text('Topic of the messages', { default: 'nfvi.ncsrd.kubernetes', minLength: 1 }),
        interval: Type.Number({ description: 'Seconds between two rounds', exclusiveMinimum: 0, maximum: 86400, default: 20 }),
        step: text('Time between two values, as Prometheus writes durations (`20s`, `1m30s`)', {
          default: '20s',
          pattern: '^([0-9]+([.][0-9]+)?|([0-9]+(ms|s|m|h|d|w))+)$',
        }),
        window: text('Time that a rate or an average is taken over; also how far the very first round looks back', {
          default: '1m',
          pattern: '^([0-9]+(ms|s|m|h|d|w))+$',
        }),
        delay: Type.Number({
          description: 'Seconds that a value is left to settle before it is asked for: as long as a scrape may take',
          minimum: 0,
          maximum: 3600,
          default: 5,
        }),
        max_catch_up: Type.Number({
          description: 'Seconds of missed rounds that are made up for at most',
          exclusiveMinimum: 0,
          maximum: 2592000,
          default: 3600,
        }),
        selector: text('Label matchers of all queries', { default: 'image!=""' }),
        container_label: text('Label that holds the container’s id', { default: 'id', pattern: '^[a-zA-Z_][a-zA-Z0-9_]*$' }),
        container_pattern: text(
          'Regular expression that finds the id in the label: its first group, or all of the match. Series without a match are left out',
          { default: '(?:^|[/:-])([0-9a-f]{32,64})(?:[.]scope)?$', minLength: 1 },
        ),
        queries: Type.Object(
          {
            rate: text('Of counters', { default: 'sum by ({label}) (rate({metric}{{selector}}[{window}]))', minLength: 1 }),
            average: text('Of everything else', {
              default: 'sum by ({label}) (avg_over_time({metric}{{selector}}[{window}]))',
              minLength: 1,
            }),
          },
          { ...closed, default: {}, description: 'Query templates, with `{metric}`, `{selector}`, `{window}` and `{label}`' },
        ),
        metrics: Type.Optional(
          Type.Array(
            Type.Object(
              {
                name: text('Name of the metric, in Prometheus and in the messages', { minLength: 1 }),
                type: oneOf(['counter', 'gauge'], 'Type written into the messages', 'gauge'),
                unit: text('Unit written into the messages', { default: '' }),
                query: Type.Optional(
                  text('`rate`, `average`, or a template of its own; `rate` for counters and `average` for gauges when missing', {
                    minLength: 1,
                  }),
                ),
                label: Type.Optional(
                  text('Label that holds the container’s id, instead of `container_label`', { pattern: '^[a-zA-Z_][a-zA-Z0-9_]*$' }),
                ),
                dropped: Type.Optional(
                  text('For a loss worked out here: the metric of the list that counts what was dropped', { minLength: 1 }),
                ),
                total: Type.Optional(text('For a loss worked out here: the metric of the list that counts everything', { minLength: 1 })),
              },
              closed,
            ),
            { description: 'The metrics asked for; the list in docs/pods.md when missing', minItems: 1 },
          ),
        ),
        http: Http(9495, 'the command `pods` (metrics, health)'),
      },
      { ...closed, default: {}, description: 'The publisher of Kubernetes pods’ metrics, role `pods` of the aggregator' },
    ),

    ml: Type.Object(
      {
        enabled: flag('Run inference inside the aggregator', true),
        models_file: Type.Optional(text('File of the power models; the shipped config/power-models.json when missing')),
        http: Http(9490, 'ML as a process of its own (metrics, health)'),
        default_type: text('Router type of a router that has none', { default: 'A', minLength: 1 }),
      },
      { ...closed, default: {}, description: 'Inference' },
    ),
  },
  { ...closed, title: 'ndt configuration', description: 'Configuration of ndt: agent, aggregator and ML read the same file.' },
);

export type Config = Type.Static<typeof ConfigSchema>;
export type RouterSettings = Type.Static<typeof RouterSchema>;
export type TlsSettings = Type.Static<typeof Tls>;
export type KafkaSettings = Config['kafka'];
export type HttpSettings = Config['agent']['http'];
