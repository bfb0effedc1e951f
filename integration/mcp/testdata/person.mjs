// visit is allow, and follows the redirect to the client.
export async function visit(url) {
  await fetch(await allow(url))
}

// allow opens an authorization request as alice, presses Allow, and returns where the redirect leads.
export async function allow(url) {
  const signedIn = { authorization: 'Basic ' + Buffer.from('alice:wonderland').toString('base64') }
  const response = await fetch(url, { headers: signedIn, redirect: 'manual' })
  let next = response.headers.get('location')
  if (response.status === 200) {
    const page = await response.text()
    const action = new URL(page.match(/action="([^"]+)"/)[1], url)
    const request = page.match(/name="request" value="([^"]+)"/)[1].replaceAll('&amp;', '&')
    const cookie = response.headers.getSetCookie().map((c) => c.split(';')[0]).join('; ')
    const answer = await fetch(action, {
      method: 'POST',
      redirect: 'manual',
      body: new URLSearchParams({ request, decision: 'allow' }),
      headers: { ...signedIn, cookie, origin: action.origin, 'content-type': 'application/x-www-form-urlencoded' },
    })
    next = answer.headers.get('location')
  }
  if (!next) throw new Error(`no redirect: ${response.status}`)
  return next
}
