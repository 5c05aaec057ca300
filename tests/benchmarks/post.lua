-- wrk: POST as many bytes as the argument says.
function init(arguments)
  wrk.method = "POST"
  wrk.body = string.rep("x", tonumber(arguments[1]))
  post = wrk.format()
end

function request()
  return post
end
