import org.apache.flink.api.common.functions.MapFunction;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;

public class Job {
    public static void main(String[] args) throws Exception {
        String kind = args[0];
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment();
        env.setParallelism(1);
        env.fromSequence(1, kind.equals("runs") ? Long.MAX_VALUE : 3)
            .map(new Act(kind)).sinkTo(new DiscardingSink<>());
        env.execute("aiflow " + kind);
    }

    static class Act implements MapFunction<Long, Long> {
        private final String kind;

        Act(String kind) { this.kind = kind; }

        public Long map(Long value) throws Exception {
            if (kind.equals("fails")) throw new IllegalStateException("out of luck");
            if (kind.equals("runs")) Thread.sleep(20);
            return value;
        }
    }
}
