package party;

import static org.springframework.security.config.Customizer.withDefaults;

import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;

import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.context.annotation.Bean;
import org.springframework.security.config.annotation.web.builders.HttpSecurity;
import org.springframework.security.core.annotation.AuthenticationPrincipal;
import org.springframework.security.oauth2.client.OAuth2AuthorizedClient;
import org.springframework.security.oauth2.client.annotation.RegisteredOAuth2AuthorizedClient;
import org.springframework.security.oauth2.client.endpoint.OAuth2RefreshTokenGrantRequest;
import org.springframework.security.oauth2.client.endpoint.RestClientRefreshTokenTokenResponseClient;
import org.springframework.security.oauth2.client.oidc.authentication.OidcIdTokenDecoderFactory;
import org.springframework.security.oauth2.client.oidc.web.logout.OidcClientInitiatedLogoutSuccessHandler;
import org.springframework.security.oauth2.client.registration.ClientRegistrationRepository;
import org.springframework.security.oauth2.core.oidc.user.OidcUser;
import org.springframework.security.web.SecurityFilterChain;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.RestController;

/** An application that signs people in with Spring Security. It tells what it knows of them, and signs them out. */
@SpringBootApplication(proxyBeanMethods = false)
@RestController
public class Party {

	public static void main(String[] args) {
		SpringApplication.run(Party.class, args);
	}

	@Bean
	SecurityFilterChain security(HttpSecurity http, ClientRegistrationRepository clients) throws Exception {
		var signOut = new OidcClientInitiatedLogoutSuccessHandler(clients);
		signOut.setPostLogoutRedirectUri("{baseUrl}/bye");
		return http
			.authorizeHttpRequests(requests -> requests.requestMatchers("/bye").permitAll().anyRequest().authenticated())
			.oauth2Login(withDefaults())
			.logout(logout -> logout.logoutSuccessHandler(signOut))
			.oidcLogout(logout -> logout.backChannel(withDefaults()))
			.build();
	}

	@GetMapping("/bye")
	String bye() {
		return "Good bye.";
	}

	/** Which user this is, for whom no token is asked. */
	@GetMapping("/name")
	String name(@AuthenticationPrincipal OidcUser user) {
		return user.getSubject();
	}

	/** The claims of the ID token, of the userinfo endpoint, and of the ID token of a refresh. */
	@GetMapping("/")
	Map<String, Object> claims(@AuthenticationPrincipal OidcUser user, @RegisteredOAuth2AuthorizedClient OAuth2AuthorizedClient client) {
		var registration = client.getClientRegistration();
		var refreshed = new RestClientRefreshTokenTokenResponseClient().getTokenResponse(
			new OAuth2RefreshTokenGrantRequest(registration, client.getAccessToken(), client.getRefreshToken()));
		var idToken = (String) refreshed.getAdditionalParameters().get("id_token");
		return Map.of(
			"Claims", known(user.getIdToken().getClaims()),
			"UserInfo", known(user.getUserInfo().getClaims()),
			"Refreshed", known(new OidcIdTokenDecoderFactory().createDecoder(registration).decode(idToken).getClaims()));
	}

	private static final Set<String> KNOWN = Set.of(
		"sub", "aud", "auth_time", "sid", "preferred_username", "name", "email", "email_verified", "groups");

	/** Claims as they are in JSON. An audience is one. */
	private static Map<String, Object> known(Map<String, Object> claims) {
		var known = new TreeMap<>(claims);
		known.keySet().retainAll(KNOWN);
		known.computeIfPresent("aud", (name, value) -> String.join(" ", (List<String>) value));
		known.computeIfPresent("auth_time", (name, value) -> ((Instant) value).getEpochSecond());
		return known;
	}
}
