import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.regex.Pattern;

import io.modelcontextprotocol.client.McpClient;
import io.modelcontextprotocol.client.McpSyncClient;
import io.modelcontextprotocol.client.transport.HttpClientStreamableHttpTransport;
import io.modelcontextprotocol.client.transport.customizer.McpHttpClientAuthorizationErrorHandler;
import io.modelcontextprotocol.spec.McpSchema;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.ObjectMapper;

/**
 * Connects with the SDK for Java, and calls tools as a program that has a secret: Client <server> <client ID> <secret>
 *
 * The SDK leaves it to a program to get tokens, and calls it for each answer with 401 or 403. It prints what it read, the number of tools,
 * whether the tool that needs another scope is refused, and what the server asked for each time.
 */
public class Client {
	private static final HttpClient HTTP = HttpClient.newHttpClient();
	private static final ObjectMapper JSON = new ObjectMapper();

	private final String id, secret;
	private String token;
	private final StringBuilder asked = new StringBuilder();

	private Client(String id, String secret) {
		this.id = id;
		this.secret = secret;
	}

	public static void main(String[] args) throws Exception {
		var server = URI.create(args[0]);
		var self = new Client(args[1], args[2]);
		var transport = HttpClientStreamableHttpTransport.builder(server.resolve("/").toString())
			.endpoint(server.getPath())
			.httpRequestCustomizer((request, method, uri, body, context) -> {
				if (self.token != null) {
					request.setHeader("Authorization", "Bearer " + self.token);
				}
			})
			.authorizationErrorHandler(McpHttpClientAuthorizationErrorHandler.fromSync((answer, context) ->
				self.authorize(answer.headers().firstValue("WWW-Authenticate").orElse(""))))
			.build();
		var result = new LinkedHashMap<String, Object>();
		try (var client = McpClient.sync(transport).build()) {
			client.initialize();
			result.put("Tools", client.listTools().tools().size());
			result.put("Read", call(client, "get_order"));
			try {
				result.put("Deleted", call(client, "delete_order"));
			} catch (RuntimeException refused) {
				result.put("Refused", true);
			}
		}
		result.put("Asked", self.asked.toString());
		System.out.println(JSON.writeValueAsString(result));
	}

	private static String call(McpSyncClient client, String tool) {
		var result = client.callTool(McpSchema.CallToolRequest.builder(tool).arguments(Map.of("id", 7)).build());
		return ((McpSchema.TextContent) result.content().get(0)).text();
	}

	/** Gets a token for what a challenge asks for, and reports whether there is one. */
	private boolean authorize(String challenge) {
		var scope = parameter(challenge, "scope");
		asked.append(asked.isEmpty() ? "" : ", ").append(scope);
		try {
			var resource = get(parameter(challenge, "resource_metadata"));
			var issuer = URI.create(resource.get("authorization_servers").get(0).asString());
			var server = get(issuer.resolve("/.well-known/oauth-authorization-server").toString());
			var form = "grant_type=client_credentials&scope=" + encode(scope) + "&resource=" + encode(resource.get("resource").asString());
			var credentials = Base64.getEncoder().encodeToString((encode(id) + ":" + encode(secret)).getBytes(StandardCharsets.UTF_8));
			var answer = HTTP.send(HttpRequest.newBuilder(URI.create(server.get("token_endpoint").asString()))
				.header("Authorization", "Basic " + credentials)
				.header("Content-Type", "application/x-www-form-urlencoded")
				.POST(HttpRequest.BodyPublishers.ofString(form)).build(), HttpResponse.BodyHandlers.ofString());
			if (answer.statusCode() != 200) {
				return false;
			}
			token = JSON.readTree(answer.body()).get("access_token").asString();
			return true;
		} catch (java.io.IOException | InterruptedException failure) {
			throw new IllegalStateException(failure);
		}
	}

	private static JsonNode get(String address) throws java.io.IOException, InterruptedException {
		return JSON.readTree(HTTP.send(HttpRequest.newBuilder(URI.create(address)).build(), HttpResponse.BodyHandlers.ofString()).body());
	}

	private static String parameter(String challenge, String name) {
		var found = Pattern.compile("\\b" + name + "=\"([^\"]*)\"").matcher(challenge);
		return found.find() ? found.group(1) : "";
	}

	private static String encode(String text) {
		return URLEncoder.encode(text, StandardCharsets.UTF_8);
	}
}
