// The relying parties. Each signs a person in at /<name>/login, and its callback answers with what the library has found out.
import express from 'express'
import session from 'express-session'
import * as openid from 'openid-client'
import * as oauth from 'oauth4webapi'
import passport from 'passport'
import OpenIDConnectStrategy from 'passport-openidconnect'

const { ISSUER: issuer, ORIGIN: origin, CLIENT_SECRET: secret } = process.env
const scope = 'openid profile email groups'
const app = express()
app.use(session({ secret, resave: false, saveUninitialized: true }))

const openidClient = await openid.discovery(new URL(issuer), 'openid-client', undefined, openid.ClientSecretBasic(secret), {
  execute: [openid.allowInsecureRequests, openid.enableNonRepudiationChecks],
})

app.get('/openid-client/login', async (req, res) => {
  const verifier = openid.randomPKCECodeVerifier()
  const checks = { pkceCodeVerifier: verifier, expectedState: openid.randomState(), expectedNonce: openid.randomNonce() }
  req.session.checks = checks
  res.redirect(
    openid.buildAuthorizationUrl(openidClient, {
      scope,
      redirect_uri: `${origin}/openid-client/callback`,
      code_challenge: await openid.calculatePKCECodeChallenge(verifier),
      code_challenge_method: 'S256',
      state: checks.expectedState,
      nonce: checks.expectedNonce,
    }).href,
  )
})

app.get('/openid-client/callback', async (req, res) => {
  const tokens = await openid.authorizationCodeGrant(openidClient, new URL(req.originalUrl, origin), {
    ...req.session.checks,
    idTokenExpected: true,
  })
  const claims = tokens.claims()
  const refreshed = await openid.refreshTokenGrant(openidClient, tokens.refresh_token)
  const userinfo = await openid.fetchUserInfo(openidClient, refreshed.access_token, claims.sub)
  res.json({ claims, userinfo, refreshed: refreshed.claims() })
})

const insecure = { [oauth.allowInsecureRequests]: true }
const server = await oauth.processDiscoveryResponse(new URL(issuer), await oauth.discoveryRequest(new URL(issuer), insecure))
const publicClient = { client_id: 'oauth4webapi', id_token_signed_response_alg: 'ES256' }

app.get('/oauth4webapi/login', async (req, res) => {
  const checks = { verifier: oauth.generateRandomCodeVerifier(), nonce: oauth.generateRandomNonce(), state: oauth.generateRandomState() }
  req.session.checks = checks
  const url = new URL(server.authorization_endpoint)
  url.search = new URLSearchParams({
    client_id: publicClient.client_id,
    redirect_uri: `${origin}/oauth4webapi/callback`,
    response_type: 'code',
    scope,
    code_challenge: await oauth.calculatePKCECodeChallenge(checks.verifier),
    code_challenge_method: 'S256',
    state: checks.state,
    nonce: checks.nonce,
  })
  res.redirect(url.href)
})

app.get('/oauth4webapi/callback', async (req, res) => {
  const { verifier, nonce, state } = req.session.checks
  const params = oauth.validateAuthResponse(server, publicClient, new URL(req.originalUrl, origin), state)
  const exchange = await oauth.authorizationCodeGrantRequest(
    server, publicClient, oauth.None(), params, `${origin}/oauth4webapi/callback`, verifier, insecure,
  )
  const tokens = await oauth.processAuthorizationCodeResponse(server, publicClient, exchange, { expectedNonce: nonce, requireIdToken: true })
  await oauth.validateApplicationLevelSignature(server, exchange, insecure)
  const claims = oauth.getValidatedIdTokenClaims(tokens)
  const answer = await oauth.refreshTokenGrantRequest(server, publicClient, oauth.None(), tokens.refresh_token, insecure)
  const renewed = await oauth.processRefreshTokenResponse(server, publicClient, answer)
  await oauth.validateApplicationLevelSignature(server, answer, insecure)
  const info = await oauth.userInfoRequest(server, publicClient, renewed.access_token, insecure)
  const userinfo = await oauth.processUserInfoResponse(server, publicClient, claims.sub, info)
  res.json({ claims, userinfo, refreshed: oauth.getValidatedIdTokenClaims(renewed) })
})

const payload = (jwt) => JSON.parse(Buffer.from(jwt.split('.')[1], 'base64url'))
const strategy = new OpenIDConnectStrategy(
  {
    issuer,
    authorizationURL: server.authorization_endpoint,
    tokenURL: server.token_endpoint,
    userInfoURL: server.userinfo_endpoint,
    clientID: 'passport',
    clientSecret: secret,
    callbackURL: `${origin}/passport/callback`,
    scope: 'profile email groups',
    nonce: true,
  },
  (iss, userinfo, profile, context, idToken, accessToken, refreshToken, params, done) => {
    strategy._oauth2.getOAuthAccessToken(refreshToken, { grant_type: 'refresh_token' }, (error, token, next, answer) => {
      if (error) return done(Object.assign(new Error('refresh'), { cause: error }))
      done(null, { claims: payload(idToken), userinfo: userinfo._json, refreshed: payload(answer.id_token) })
    })
  },
)
passport.use(strategy)
const authenticate = passport.authenticate('openidconnect', { session: false })
app.get('/passport/login', authenticate)
app.get('/passport/callback', authenticate, (req, res) => res.json(req.user))

// Express has no handler that prints an error in full.
app.use((err, req, res, next) => {
  res.status(500).json({ error: String(err), cause: String(err.cause?.stack ?? JSON.stringify(err.cause)), stack: err.stack })
})
app.listen(new URL(origin).port, '127.0.0.1')
