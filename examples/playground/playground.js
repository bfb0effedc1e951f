// The playground is a public client: it plays the authorization code flow with PKCE (RFC 7636), step by step. A real app uses a library.
'use strict'

const app = 'demo-app'
const redirectURI = location.origin + '/callback'
const state = JSON.parse(sessionStorage.playground ?? '{"entries":[]}')
const button = (id) => document.getElementById(id)

function save() {
  sessionStorage.playground = JSON.stringify(state)
  button('exchange').disabled = !state.code
  button('call').disabled = !state.accessToken
  button('refresh').disabled = button('revoke').disabled = !state.refreshToken
  button('again').disabled = !state.first || state.first === state.refreshToken
}

function base64url(bytes) {
  return btoa(String.fromCharCode(...new Uint8Array(bytes))).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '')
}

const random = () => base64url(crypto.getRandomValues(new Uint8Array(32)))

// decoded returns the header and the claims of a JWT. It checks nothing: only the API needs to.
function decoded(jwt) {
  return jwt.split('.').slice(0, 2).map((part) => {
    const text = atob(part.replace(/-/g, '+').replace(/_/g, '/'))
    return JSON.stringify(JSON.parse(decodeURIComponent(escape(text))), null, 2)
  }).join('\n')
}

// show adds an entry to the list of what happened.
function show(entry) {
  state.entries.push(entry)
  render(entry)
  save()
}

function render({ title, good, parts }) {
  button('nothing')?.remove()
  const article = document.createElement('article')
  const heading = document.createElement('h3')
  heading.textContent = title
  heading.className = good ? 'good' : 'bad'
  article.append(heading)
  for (const part of parts) {
    const pre = document.createElement('pre')
    pre.textContent = part
    article.append(pre)
  }
  document.getElementById('log').append(article)
  article.scrollIntoView({ block: 'nearest' })
}

// curl returns the command that sends the same request.
function curl(url, { form, user, token }) {
  const lines = ['curl ' + location.origin + url]
  if (user) lines.push('-u ' + user)
  if (token) lines.push(`-H "Authorization: Bearer ${token}"`)
  for (const [name, value] of Object.entries(form ?? {})) lines.push(`-d ${name}=${value}`)
  return lines.join(' \\\n  ')
}

// send sends a request, shows it, and returns the JSON of the answer.
async function send(title, url, { form, user, token }) {
  const headers = {}
  if (user) headers.Authorization = 'Basic ' + btoa(user)
  if (token) headers.Authorization = 'Bearer ' + token
  // Without credentials: alice's password, which the browser knows by now, is not the app's.
  const response = await fetch(url, { method: form ? 'POST' : 'GET', headers, body: form && new URLSearchParams(form), credentials: 'omit' })
  const text = await response.text()
  let answer = {}
  try {
    answer = JSON.parse(text)
  } catch {} // a refusal of the guard has no body
  const parts = [curl(url, { form, user, token }), `${response.status}\n${text ? JSON.stringify(answer, null, 2) : response.headers.get('WWW-Authenticate') ?? ''}`]
  if (answer.access_token) parts.push('The access token says:\n' + decoded(answer.access_token))
  if (answer.error_id) parts.push('Why? Ask in a shell:\ncaddy oauth explain ' + answer.error_id + ' --config Caddyfile.example')
  show({ title: `${title}: ${response.ok ? 'accepted' : 'refused'}`, good: response.ok, parts })
  return response.ok ? answer : null
}

function keep(answer) {
  if (!answer) return
  state.accessToken = answer.access_token
  state.refreshToken = answer.refresh_token
  save()
}

const steps = {
  async ask() {
    state.verifier = random()
    state.sent = random()
    const challenge = base64url(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(state.verifier)))
    const url = '/oauth/authorize?' + new URLSearchParams({
      response_type: 'code', client_id: app, redirect_uri: redirectURI, scope: 'profile orders',
      state: state.sent, code_challenge: challenge, code_challenge_method: 'S256',
    })
    show({ title: 'Ask alice', good: true, parts: ['The browser opens:\n' + location.origin + url, 'The app remembers the verifier:\n' + state.verifier] })
    location.assign(url)
  },
  async exchange() {
    const form = { grant_type: 'authorization_code', client_id: app, redirect_uri: redirectURI, code: state.code, code_verifier: state.verifier }
    state.code = state.first = state.refreshToken = null
    keep(await send('Exchange the code', '/oauth/token', { form }))
    state.first = state.refreshToken
    save()
  },
  call: () => send('Call the API', '/api/orders', { token: state.accessToken }),
  async refresh() {
    keep(await send('Refresh', '/oauth/token', { form: { grant_type: 'refresh_token', client_id: app, refresh_token: state.refreshToken } }))
  },
  async again() {
    keep(await send('Send the first refresh token', '/oauth/token', { form: { grant_type: 'refresh_token', client_id: app, refresh_token: state.first } }))
  },
  revoke: () => send('Revoke', '/oauth/revoke', { form: { client_id: app, token: state.refreshToken } }),
  script: () => send('Be a script', '/oauth/token', { form: { grant_type: 'client_credentials' }, user: 'demo-script:only-for-trying-it-out' }),
  clear() {
    sessionStorage.removeItem('playground')
    location.assign('/')
  },
}

for (const [id, step] of Object.entries(steps)) button(id).addEventListener('click', step)
state.entries.forEach(render)

const answer = new URLSearchParams(location.search)
if (location.pathname === '/callback' && (answer.has('code') || answer.has('error'))) {
  history.replaceState(null, '', '/')
  if (answer.get('state') !== state.sent && state.sent) {
    show({ title: 'An answer to another request: its state is not the one that was sent', good: false, parts: [answer.get('state') ?? ''] })
  } else {
    state.code = answer.get('code')
    show({
      title: state.code ? 'Alice has allowed the app' : 'Alice has not allowed the app', good: Boolean(state.code),
      parts: [[...answer].map(([name, value]) => `${name} = ${value}`).join('\n')],
    })
  }
}
save()
