import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.sun.management.OperatingSystemMXBean;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AdminClientConfig;
import org.apache.kafka.clients.consumer.ConsumerInterceptor;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Repartitioned;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * A Kafka Streams application into PostgreSQL, as a peer of the benchmark.
 *
 * Messages are repartitioned by group, summed up in a state store, and each second the totals of
 * the groups that changed are upserted. State and positions are exactly once (exactly_once_v2).
 * The upserts are not part of Kafka's transaction: after a crash the table may be ahead of the
 * state, or behind it. So a task that starts writes all its groups once more; totals are
 * absolute, and the table is exact again when the task has caught up.
 *
 * usage: KafkaStreamsPeer BOOTSTRAP TOPIC L|H JDBC_URL COUNT STATE_DIR
 *
 * Ends when the table holds COUNT messages; prints NAME VALUE lines as bare_consumer does.
 */
public final class KafkaStreamsPeer {
    private static final OperatingSystemMXBean SYSTEM =
        (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
    private static final int PARTITIONS = 4;
    private static final int THREADS = 2;
    private static final Duration WRITE_INTERVAL = Duration.ofSeconds(1);
    private static final int WRITE_GROUPS = 100_000;
    private static final JsonFactory JSON = new JsonFactory();

    private record Totals(long hits, double total, double worst) {
        static final Totals NONE = new Totals(0, 0, Double.NEGATIVE_INFINITY);

        Totals add(double latency) {
            return new Totals(hits + 1, total + latency, Math.max(worst, latency));
        }

        static final Serde<Totals> SERDE = Serdes.serdeFrom(
            (topic, t) -> t == null ? null
                : ByteBuffer.allocate(24).putLong(t.hits).putDouble(t.total).putDouble(t.worst).array(),
            (topic, bytes) -> {
                if (bytes == null)
                    return null;
                ByteBuffer b = ByteBuffer.wrap(bytes);
                return new Totals(b.getLong(), b.getDouble(), b.getDouble());
            });
    }

    /** A message's group, "2026-01-01T00:00 /page/5", and its latency. */
    private static KeyValue<String, Double> parse(byte[] message, String keyField) {
        String minute = null;
        String key = null;
        double latency = 0;
        try (JsonParser parser = JSON.createParser(message)) {
            parser.nextToken();
            while (parser.nextToken() == JsonToken.FIELD_NAME) {
                String field = parser.currentName();
                parser.nextToken();
                if (field.equals("ts"))
                    minute = parser.getText().substring(0, 16);
                else if (field.equals(keyField))
                    key = parser.getText();
                else if (field.equals("latency"))
                    latency = parser.getDoubleValue();
            }
        } catch (IOException e) {
            throw new IllegalArgumentException(e);
        }
        return KeyValue.pair(minute + " " + key, latency);
    }

    private static final class Aggregate implements Processor<String, Double, Void, Void> {
        private final Connection connection;
        private final PreparedStatement upsert;
        private final boolean numeric;
        private final AtomicLong written;
        private final Map<String, Totals> changed = new HashMap<>();
        private long unwritten = 0;
        private KeyValueStore<String, Totals> groups;

        Aggregate(String url, String keyField, AtomicLong written) {
            this.written = written;
            numeric = keyField.equals("user_id");
            try {
                connection = DriverManager.getConnection(url);
                connection.setAutoCommit(false);
                upsert = connection.prepareStatement("INSERT INTO peer VALUES (?, ?, ?, ?, ?) ON CONFLICT (minute, "
                    + keyField + ") DO UPDATE SET hits = excluded.hits, total = excluded.total, worst = excluded.worst");
            } catch (SQLException e) {
                throw new IllegalStateException(e);
            }
        }

        @Override
        public void init(ProcessorContext<Void, Void> context) {
            groups = context.getStateStore("groups");
            try (KeyValueIterator<String, Totals> all = groups.all()) {
                all.forEachRemaining(group -> changed.put(group.key, group.value));
            }
            context.schedule(WRITE_INTERVAL, PunctuationType.WALL_CLOCK_TIME, now -> write());
        }

        @Override
        public void process(Record<String, Double> message) {
            Totals before = changed.get(message.key());
            if (before == null)
                before = groups.get(message.key());
            Totals after = (before == null ? Totals.NONE : before).add(message.value());
            groups.put(message.key(), after);
            changed.put(message.key(), after);
            unwritten++;
            if (changed.size() >= WRITE_GROUPS)
                write();
        }

        private void write() {
            try {
                for (Map.Entry<String, Totals> group : changed.entrySet()) {
                    String key = group.getKey();
                    Totals totals = group.getValue();
                    upsert.setString(1, key.substring(0, 16));
                    if (numeric)
                        upsert.setLong(2, Long.parseLong(key.substring(17)));
                    else
                        upsert.setString(2, key.substring(17));
                    upsert.setLong(3, totals.hits());
                    upsert.setDouble(4, totals.total());
                    upsert.setDouble(5, totals.worst());
                    upsert.addBatch();
                }
                upsert.executeBatch();
                connection.commit();
            } catch (SQLException e) {
                throw new IllegalStateException(e);
            }
            changed.clear();
            written.addAndGet(unwritten);
            unwritten = 0;
        }

        @Override
        public void close() {
            try {
                connection.close();
            } catch (SQLException e) {
                throw new IllegalStateException(e);
            }
        }
    }

    private static void createTable(String url, String keyField) throws SQLException {
        try (Connection connection = DriverManager.getConnection(url)) {
            connection.createStatement().execute("DROP TABLE IF EXISTS peer; CREATE TABLE peer (minute text, " + keyField
                + (keyField.equals("user_id") ? " bigint" : " text")
                + ", hits bigint, total float8, worst float8, PRIMARY KEY (minute, " + keyField + "))");
        }
    }

    private static void deleteTopics(String bootstrap, String application) throws Exception {
        try (Admin admin = Admin.create(Map.of(AdminClientConfig.BOOTSTRAP_SERVERS_CONFIG, (Object) bootstrap))) {
            List<String> ours = admin.listTopics().names().get().stream().filter(t -> t.startsWith(application)).toList();
            admin.deleteTopics(ours).all().get();
        }
    }

    /** When the first messages arrived, and the CPU time of this process until then. */
    public static final class Start implements ConsumerInterceptor<byte[], byte[]> {
        private static long nanos = 0;
        private static long cpu = 0;

        @Override
        public ConsumerRecords<byte[], byte[]> onConsume(ConsumerRecords<byte[], byte[]> records) {
            synchronized (Start.class) {
                if (nanos == 0 && !records.isEmpty()) {
                    nanos = System.nanoTime();
                    cpu = SYSTEM.getProcessCpuTime();
                }
            }
            return records;
        }

        @Override
        public void onCommit(Map<TopicPartition, OffsetAndMetadata> offsets) {}

        @Override
        public void configure(Map<String, ?> settings) {}

        @Override
        public void close() {}
    }

    private static void report(String messages, long submitted) throws IOException {
        long now = System.nanoTime();
        double cpu = (SYSTEM.getProcessCpuTime() - Start.cpu) / 1e9;
        String hwm = Files.readAllLines(Path.of("/proc/self/status")).stream().filter(line -> line.startsWith("VmHWM:"))
            .findFirst().orElseThrow().replaceAll("[^0-9]", "");
        System.out.printf("messages %s%nseconds %.6f%nstart_seconds %.6f%nother_cpu %.6f%nhwm_kb %s%n", messages,
            (now - Start.nanos) / 1e9, (Start.nanos - submitted) / 1e9, cpu, hwm);
    }

    public static void main(String[] args) throws Exception {
        String bootstrap = args[0];
        String keyField = args[2].equals("H") ? "user_id" : "url";
        String url = args[3];
        long count = Long.parseLong(args[4]);
        AtomicLong written = new AtomicLong();
        CompletableFuture<Void> failure = new CompletableFuture<>();
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "peer-" + UUID.randomUUID());
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, args[5]);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, "1000");
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, THREADS);
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 64 << 20);
        settings.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        settings.put(StreamsConfig.consumerPrefix("max.poll.records"), "10000");
        settings.put(StreamsConfig.consumerPrefix("interceptor.classes"), Start.class.getName());

        StreamsBuilder builder = new StreamsBuilder();
        builder.addStateStore(Stores.keyValueStoreBuilder(Stores.inMemoryKeyValueStore("groups"), Serdes.String(),
            Totals.SERDE).withCachingEnabled());
        builder.stream(args[1], Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()))
            .map((none, message) -> parse(message, keyField))
            .repartition(Repartitioned.with(Serdes.String(), Serdes.Double()).withNumberOfPartitions(PARTITIONS))
            .process(() -> new Aggregate(url, keyField, written), "groups");
        createTable(url, keyField);

        try (KafkaStreams streams = new KafkaStreams(builder.build(), settings)) {
            streams.setUncaughtExceptionHandler(e -> {
                failure.completeExceptionally(e);
                return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
            });
            long submitted = System.nanoTime();
            streams.start();
            while (written.get() < count && !failure.isDone())
                Thread.sleep(1);
            failure.getNow(null);
            report(args[4], submitted);
        }
        deleteTopics(bootstrap, settings.getProperty(StreamsConfig.APPLICATION_ID_CONFIG));
    }
}
