import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;

/** Publishes by the server API with a client as it comes, which offers h2c; says what each call is answered. */
public class Publish {
    public static void main(String[] arguments) throws Exception {
        String url = arguments[0], key = arguments[1], channel = arguments[2];
        HttpClient client = HttpClient.newHttpClient();
        for (int number = 0; number < 3; number++) {
            String body = "{\"channel\":\"" + channel + "\",\"data\":{\"java\":" + number + "}}";
            boolean chunked = number == 2;
            HttpRequest request = HttpRequest.newBuilder(URI.create(url + "/publish"))
                .header("X-API-Key", key)
                .POST(chunked
                    ? BodyPublishers.fromPublisher(BodyPublishers.ofString(body))
                    : BodyPublishers.ofString(body))
                .build();
            HttpResponse<String> response = client.send(request, BodyHandlers.ofString());
            System.out.println(response.statusCode() + " " + response.body());
        }
    }
}
