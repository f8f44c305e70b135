import com.sun.management.OperatingSystemMXBean;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.util.Map;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.kafka.clients.consumer.ConsumerInterceptor;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;

/**
 * Flink SQL into PostgreSQL, as a peer of the benchmark: one streaming job in an embedded cluster
 * with two slots, state on the heap, mini-batch aggregation in two phases.
 *
 * State and positions are exactly once, by checkpoints. The sink upserts absolute totals at
 * least once: after a crash the table may be ahead of the checkpoint, groups may for a while
 * go back to older totals, and it is exact again when the job has caught up.
 *
 * usage: FlinkPeer BOOTSTRAP TOPIC L|H JDBC_URL COUNT STATE_DIR
 *
 * Reads the topic to its end as it is at the start; prints NAME VALUE lines as bare_consumer does.
 */
public final class FlinkPeer {
    private static final OperatingSystemMXBean SYSTEM =
        (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
    private static Configuration settings(String stateDir) {
        Configuration c = new Configuration();
        c.setString("parallelism.default", "2");
        c.setString("taskmanager.numberOfTaskSlots", "2");
        c.setString("state.backend.type", "hashmap");
        c.setString("execution.checkpointing.interval", "10 s");
        c.setString("execution.checkpointing.mode", "EXACTLY_ONCE");
        c.setString("execution.checkpointing.dir", "file://" + stateDir);
        c.setString("restart-strategy.type", "none");
        c.setString("pipeline.object-reuse", "true");
        c.setString("table.local-time-zone", "UTC");
        c.setString("table.exec.mini-batch.enabled", "true");
        c.setString("table.exec.mini-batch.allow-latency", "1 s");
        c.setString("table.exec.mini-batch.size", "50000");
        c.setString("table.optimizer.agg-phase-strategy", "TWO_PHASE");
        return c;
    }

    private static String source(String bootstrap, String topic) {
        return """
            CREATE TABLE events (ts TIMESTAMP_LTZ(3), user_id BIGINT, url STRING, latency DOUBLE) WITH (
              'connector' = 'kafka', 'properties.bootstrap.servers' = '%s', 'topic' = '%s',
              'properties.isolation.level' = 'read_committed', 'properties.interceptor.classes' = '%s',
              'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset',
              'format' = 'json', 'json.timestamp-format.standard' = 'ISO-8601')"""
            .formatted(bootstrap, topic, Start.class.getName());
    }

    private static String sink(String key, String url) {
        return """
            CREATE TABLE peer (`minute` TIMESTAMP(3), %s, hits BIGINT, total DOUBLE, worst DOUBLE,
              PRIMARY KEY (`minute`, %s) NOT ENFORCED) WITH (
              'connector' = 'jdbc', 'url' = '%s', 'table-name' = 'peer',
              'sink.buffer-flush.max-rows' = '10000', 'sink.buffer-flush.interval' = '1 s')"""
            .formatted(key, key.split(" ")[0], url);
    }

    private static String query(String key) {
        return """
            INSERT INTO peer SELECT CAST(FLOOR(ts TO MINUTE) AS TIMESTAMP(3)), %1$s,
              COUNT(*), SUM(latency), MAX(latency) FROM events GROUP BY FLOOR(ts TO MINUTE), %1$s"""
            .formatted(key.split(" ")[0]);
    }

    private static void createTable(String url, String key) throws SQLException {
        try (Connection connection = DriverManager.getConnection(url)) {
            connection.createStatement().execute(("DROP TABLE IF EXISTS peer; CREATE TABLE peer (minute timestamp, %s, "
                + "hits bigint, total float8, worst float8, PRIMARY KEY (minute, %s))")
                .formatted(key.replace("STRING", "text"), key.split(" ")[0]));
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
        String key = args[2].equals("H") ? "user_id BIGINT" : "url STRING";
        TableEnvironment tables = TableEnvironment.create(EnvironmentSettings.newInstance().inStreamingMode()
            .withConfiguration(settings(args[5])).build());
        createTable(args[3], key);
        tables.executeSql(source(args[0], args[1]));
        tables.executeSql(sink(key, args[3]));
        long submitted = System.nanoTime();
        tables.executeSql(query(key)).await();
        report(args[4], submitted);
    }
}
