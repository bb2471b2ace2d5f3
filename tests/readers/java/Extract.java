import java.io.InputStream;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.zip.GZIPInputStream;
import org.apache.commons.compress.archivers.tar.TarArchiveInputStream;

/** Extracts a tar.gz into the present folder with Java's GZIPInputStream and Apache Commons Compress. */
public class Extract {
    public static void main(String[] arguments) throws Exception {
        try (InputStream file = Files.newInputStream(Path.of(arguments[0]));
                GZIPInputStream unzipped = new GZIPInputStream(file);
                TarArchiveInputStream entries = new TarArchiveInputStream(unzipped)) {
            for (var entry = entries.getNextEntry(); entry != null; entry = entries.getNextEntry()) {
                Path target = Path.of(entry.getName());
                if (entry.isDirectory()) {
                    Files.createDirectory(target);
                } else {
                    Files.copy(entries, target);
                }
            }
            unzipped.transferTo(OutputStream.nullOutputStream()); // to the last gzip member, with its checksum
        }
    }
}
