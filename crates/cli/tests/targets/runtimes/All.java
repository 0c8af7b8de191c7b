// Threads, garbage, exceptions through many frames, a stack overflow, and a look at its own stack:
// what HotSpot walks its return addresses for.
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.zip.CRC32;

public class All {
    static int overflow(int n) {
        return overflow(n + 1) + 1;
    }

    static int thrown(int depth) {
        if (depth == 0) throw new IllegalStateException("bottom");
        return thrown(depth - 1) + 1;
    }

    static long churn(int seed) {
        Map<String, List<byte[]>> map = new HashMap<>();
        long sum = 0;
        for (int i = 0; i < 20000; i++) {
            String key = "k" + (i * 31 + seed) % 97;
            map.computeIfAbsent(key, k -> new ArrayList<>()).add(new byte[i % 257]);
            if (i % 1000 == 999) {
                CRC32 crc = new CRC32();
                for (List<byte[]> list : map.values()) list.forEach(crc::update);
                sum += crc.getValue();
                map.clear();
            }
        }
        return sum;
    }

    public static void main(String[] args) throws Exception {
        int caught = 0;
        for (int i = 0; i < 2000; i++) {
            try {
                thrown(i % 60);
            } catch (IllegalStateException e) {
                caught += e.getStackTrace().length > 0 ? 1 : 0;
            }
        }
        System.out.println("caught " + caught);
        try {
            overflow(0);
        } catch (StackOverflowError e) {
            System.out.println("overflow true");
        }
        ExecutorService pool = Executors.newFixedThreadPool(8);
        List<Future<Long>> all = new ArrayList<>();
        for (int i = 0; i < 16; i++) {
            int seed = i;
            all.add(pool.submit(() -> churn(seed)));
        }
        long sum = 0;
        for (Future<Long> one : all) sum += one.get();
        pool.shutdown();
        System.gc();
        System.out.println("sum " + sum);
        long frames = StackWalker.getInstance().walk(s -> s.count());
        System.out.println("frames " + frames);
    }
}
